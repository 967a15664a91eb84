"""Measure the operator's load on a real API server, and its latency and memory: ``make bench-operator``.
Command line arguments name the parts of the benchmark to run.

The kubelet is fake (:mod:`support.fake_kubelet`). The API server, the Job controller, tokens, garbage
collection and the audit log are real. Prints a table, and writes build/bench/operator.json.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from crowded_namespace import crowded_namespace, growth
from judged_jobs import LAST_STEP, WaitingKubelet, final_results, stage_results
from measures import RESULTS, Measure, run
from operator_cluster import (
    COUNTED_SEPARATELY,
    GROUP,
    apply,
    apply_inputs,
    apply_jobs,
    cluster,
    jobs,
    our_writes,
    percentiles,
    phases,
    post,
    processor_seconds,
    put_status,
    run_one_job,
    watched,
)

from support.api_server import ApiServer
from support.builders import golden_text
from support.fake_kubelet import Address, FakeKubelet, FakePod
from support.helm import NAMESPACE
from support.operator_command import SERVICE, OperatorCommand, operator
from support.waiting import eventually
from support.world import STAGE
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.v1alpha2.finetunejob_status import Progress

RESYNC_SECONDS = 10
RUNNING_JOBS, STORED_JOBS, LISTED_JOBS = 100, 1000, 5000
PODS_PER_SECOND = 20
REPORTING_SECONDS = 60
JUDGED_JOBS, JUDGED_CASES, JUDGED_CHECKPOINTS = 50, 500, 20


def main() -> int:
    return run(
        "operator",
        {
            "writes": writes_of_a_job,
            "latency": latency_at_running_jobs,
            "verdict": latency_of_a_verdict,
            "stored": cost_of_stored_jobs,
            "listed": wait_after_a_long_list,
            "crowded": crowded_namespace,
            "growth": growth,
        },
        versions=f"kubernetes client {version('kubernetes')}, kopf {version('kopf')}",
    )


# API writes


class HoldingKubelet(FakeKubelet):
    """A kubelet whose training pods do not end if they start while ``hold`` is set. While
    ``reports_progress`` is set, they report their progress every second."""

    hold = False
    reports_progress = False

    def run_pod(self, pod: FakePod) -> None:
        if not (self.hold and pod.role is Role.TRAIN):
            super().run_pod(pod)
            return
        pod.start()
        for step in itertools.count(1):
            if self._stop.wait(1):
                return
            if self.reports_progress:
                pod.report(step, progress=_progress(step))


def _progress(step: int) -> Progress:
    return Progress(stage=STAGE, step=step, total_steps=1000, percent=step // 10, updated=datetime.now(UTC))


def writes_of_a_job() -> list[Measure]:
    """Count the operator's writes for one job with 5 checkpoints, from its creation to Succeeded. Then count
    the writes of resyncs while nothing changes, and while another job trains."""
    with cluster(audit=True) as (server, api):
        log = server.folder / "operator.log"
        kubelet = HoldingKubelet(api, Address(api, NAMESPACE, SERVICE))
        with (
            operator(server, log, TUNEGATE_RESYNC_SECONDS=str(RESYNC_SECONDS)),
            kubelet.running(),
        ):
            eventually(
                lambda: "started reconciling" in log.read_text(), seconds=60, what="the operator leads"
            )
            apply_inputs(api)
            started = our_writes(server)  # the writes of the operator's start and of the gate
            apply_jobs(api, "orders")
            eventually(lambda: phases(api)["Succeeded"] == 1, seconds=120, what="Succeeded")
            checkpoints = len(jobs(api)[0]["status"]["checkpoints"])
            assert checkpoints == 5, checkpoints
            time.sleep(2)
            finished = our_writes(server)
            time.sleep(3 * RESYNC_SECONDS)
            at_rest = our_writes(server) - finished
            kubelet.hold = True
            apply_jobs(api, "another")
            eventually(lambda: phases(api)["Training"] == 1, seconds=120, what="Training")
            time.sleep(2)
            before_training = our_writes(server)
            time.sleep(3 * RESYNC_SECONDS)
            in_training = our_writes(server) - before_training
            kubelet.reports_progress = True
            time.sleep(REPORTING_SECONDS)
            progress_writes = our_writes(server) - before_training - in_training
        ours = finished - started
    counted = {what: n for what, n in ours.items() if what[1] not in COUNTED_SEPARATELY}
    lines = [
        Measure("API writes of a job's life", sum(counted.values()), "writes", "<= 30"),
        *(Measure(f"  {verb} {resource}", n, "writes") for (verb, resource), n in sorted(counted.items())),
        *(
            Measure(f"  apart: {verb} {resource}", n, "writes")
            for (verb, resource), n in sorted(ours.items())
            if resource in COUNTED_SEPARATELY
        ),
    ]
    progress = sum(n for (_, resource), n in progress_writes.items() if resource not in COUNTED_SEPARATELY)
    lines.append(
        Measure(f"  apart: progress alone, {REPORTING_SECONDS} s of one report a second", progress, "writes")
    )
    for when, idle in (("at rest", at_rest), ("while a job trains", in_training)):
        count = sum(n for (_, resource), n in idle.items() if resource not in COUNTED_SEPARATELY)
        lines.append(Measure(f"API writes during three resyncs {when}", count, "writes", "<= 0"))
    return lines


# Latency


class TimedKubelet(FakeKubelet):
    """A kubelet whose data pods complete and whose training pods do not end. While ``hold`` is set, it
    collects training pods instead of starting them, so that their starts can be timed."""

    def __init__(self, api: client.ApiClient) -> None:
        super().__init__(api, Address(api, NAMESPACE, SERVICE))
        self.pending: list[FakePod] = []
        self.hold = False

    def run_pod(self, pod: FakePod) -> None:
        if pod.role is Role.DATA:
            super().run_pod(pod)
        elif self.hold:
            self.pending.append(pod)
        else:
            pod.start()


def latency_at_running_jobs() -> list[Measure]:
    """Measure the time from a pod's start to phase Training in status, with 100 other jobs running."""
    with cluster() as (server, api):
        kubelet = TimedKubelet(api)
        with operator(server, server.folder / "operator.log"), kubelet.running():
            apply(api, *(f"running-{n}" for n in range(RUNNING_JOBS)))
            eventually(lambda: phases(api)["Training"] == RUNNING_JOBS, seconds=300, what="all train")
            kubelet.hold = True
            apply_jobs(api, *(f"timed-{n}" for n in range(RUNNING_JOBS)))
            eventually(lambda: len(kubelet.pending) == RUNNING_JOBS, seconds=300, what="all wait")
            seconds = timed_starts(api, kubelet.pending)
    return percentiles(f"pod started to status, {RUNNING_JOBS} jobs running", seconds, "<= 2")


def timed_starts(api: client.ApiClient, pods: list[FakePod]) -> list[float]:
    """Start pods at an even rate. Returns the seconds from each pod's start to its job's status."""
    started = {}
    with watched(api, lambda status: status.get("phase") == "Training") as seen:
        for pod in pods:
            pod.start()
            started[pod.job_uid] = time.monotonic()
            time.sleep(1 / PODS_PER_SECOND)
        eventually(lambda: started.keys() <= seen.keys(), seconds=100, what="every start is in status")
    return [max(0.0, seen[uid] - began) for uid, began in started.items()]


def latency_of_a_verdict() -> Iterator[Measure]:
    """Measure the time from a pod's report to the verdict in status, of jobs with 500 golden cases and 20
    checkpoints: of the last checkpoint, and then of the final model, whose pod ends after its report. The
    reports are sent one by one. The operator's processor time does not depend on what else runs."""
    golden = golden_text(JUDGED_CASES)
    name = f"to verdict, {JUDGED_CASES} cases, {JUDGED_CHECKPOINTS} checkpoints"
    with cluster() as (server, api):
        kubelet = WaitingKubelet(api)
        with operator(server, server.folder / "operator.log") as command, kubelet.running():
            process = psutil.Process(command.process.pid)
            apply_inputs(api, golden)
            apply_jobs(api, *(f"judged-{n}" for n in range(JUDGED_JOBS)))
            training, judging = (kubelet.started[role] for role in (Role.TRAIN, Role.GATE))
            eventually(lambda: len(training) == JUDGED_JOBS, seconds=120, what="all train")
            for pod in training:
                pod.report(1, results=stage_results(golden, JUDGED_CASES, JUDGED_CHECKPOINTS - 1))
            results = stage_results(golden, JUDGED_CASES, JUDGED_CHECKPOINTS)
            before = processor_seconds(process)
            seconds = timed_reports(
                api, training, lambda status: _last_step(status) == LAST_STEP, results=results
            )
            used = (processor_seconds(process) - before) / JUDGED_JOBS
            yield from percentiles(f"checkpoint's report {name}", seconds, "< 2")
            yield Measure("  the operator's processor time for each report", round(used, 3), "s")
            for pod in training:
                pod.report(3, results=results, outcome=Outcome.COMPLETED)
                pod.finish()
            eventually(lambda: len(judging) == JUDGED_JOBS, seconds=120, what="all are judged")
            final = final_results(golden, JUDGED_CASES)
            seconds = timed_reports(
                api, judging, lambda status: "final" in status, results=final, outcome=Outcome.COMPLETED
            )
            yield from percentiles(f"final report {name}", seconds, "< 2")


def timed_reports(
    api: client.ApiClient, pods: list[FakePod], is_shown: Callable[[dict[str, Any]], bool], **content: Any
) -> list[float]:
    """Send a report of each pod, one by one, and end the pod if the report has an outcome. Returns the
    seconds from each report to its job's status."""
    seconds = []
    with watched(api, is_shown) as seen:
        for pod in pods:
            began = time.monotonic()
            pod.report(2, **content)
            if "outcome" in content:
                pod.finish()
            eventually(lambda uid=pod.job_uid: uid in seen, seconds=60, what="the verdict", pause=0.005)
            seconds.append(max(0.0, seen[pod.job_uid] - began))
    return seconds


def _last_step(status: dict[str, Any]) -> int:
    return max((checkpoint["step"] for checkpoint in status.get("checkpoints", ())), default=0)


# Memory and restart


def cost_of_stored_jobs() -> list[Measure]:
    """Measure the operator's memory and start-up time with 1,000 finished FineTuneJobs, each with 4 Jobs, 4
    Pods and 3 ConfigMaps."""
    with cluster(controllers="garbage-collector-controller,serviceaccount-controller") as (server, api):
        store(api)
        log = server.folder / "operator.log"
        with operator(server, log) as first:
            apply_inputs(api)
            eventually(
                lambda: "started reconciling" in log.read_text(), seconds=120, what="the operator leads"
            )
            first.kill()
        with restarted(server, api, log, "operator-0", "after-a-crash") as (_, in_place):
            pass  # then it is stopped, as in a rolling update
        with restarted(server, api, log, "operator-1", "after-an-update") as (second, in_another_pod):
            time.sleep(4 * RESYNC_SECONDS)
            memory = psutil.Process(second.process.pid).memory_info().rss / 10**6
        (RESULTS / "operator.log").write_bytes(log.read_bytes())
    name = f"{STORED_JOBS} stored jobs"
    return [
        Measure(f"killed to first decision in the same pod, {name}", round(in_place, 1), "s", "<= 10"),
        Measure(f"stopped to first decision in a new pod, {name}", round(in_another_pod, 1), "s", "<= 10"),
        Measure(f"memory after three resyncs, {name}", round(memory), "MB", "<= 200"),
    ]


def wait_after_a_long_list() -> list[Measure]:
    """Measure the time from a job's creation to its first status, when an operator with 5,000 finished jobs
    begins to decide, and the time from the operator's start to this status."""
    with cluster(controllers="garbage-collector-controller,serviceaccount-controller") as (server, api):
        finished = run_one_job()[:1]
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda n: copy_job(api, finished, n), range(LISTED_JOBS)))
        log, started = server.folder / "operator.log", time.monotonic()
        with operator(server, log) as command:
            eventually(
                lambda: "started reconciling" in log.read_text(), seconds=120, what="the operator leads"
            )
            apply_jobs(api, "after-the-list")
            began = time.monotonic()
            eventually(
                lambda: "phase" in _job(api, "after-the-list").get("status", {}), seconds=120, what="decided"
            )
            decided = time.monotonic()
            time.sleep(RESYNC_SECONDS)
            memory = psutil.Process(command.process.pid).memory_info().rss / 10**6
    name = f"{LISTED_JOBS} listed jobs"
    return [
        Measure(f"job applied to its first status, {name}", round(decided - began, 2), "s", "< 3"),
        Measure(f"operator started to this status, {name}", round(decided - started, 2), "s", ""),
        Measure(f"memory, {name}", round(memory), "MB", "<= 200"),
    ]


@contextmanager
def restarted(
    server: ApiServer, api: client.ApiClient, log: Path, pod: str, job: str
) -> Iterator[tuple[OperatorCommand, float]]:
    """Start an operator in ``pod``. Yields the operator, and the seconds until it decided about a new
    ``job``."""
    apply_jobs(api, job)
    began = time.monotonic()
    with operator(server, log, POD_NAME=pod, TUNEGATE_RESYNC_SECONDS=str(RESYNC_SECONDS)) as command:
        eventually(lambda: "phase" in _job(api, job).get("status", {}), seconds=60, what="decided")
        yield command, time.monotonic() - began


def _job(api: client.ApiClient, name: str) -> dict[str, Any]:
    custom = client.CustomObjectsApi(api)
    found: dict[str, Any] = custom.get_namespaced_custom_object(*GROUP, "default", "finetunejobs", name)
    return found


def store(api: client.ApiClient) -> None:
    """Create finished jobs. One job is run on another API server, and copies of its objects are created."""
    allow_copies(api)
    finished = run_one_job()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda n: copy_job(api, finished, n), range(STORED_JOBS)))


def allow_copies(api: client.ApiClient) -> None:
    """Remove the binding of the policy that lets only the operator write ConfigMaps of jobs. The API server
    notices it within seconds."""
    client.AdmissionregistrationV1Api(api).delete_validating_admission_policy_binding("tunegate-records")


def copy_job(api: client.ApiClient, finished: list[dict[str, Any]], n: int) -> None:
    """Create copies of a finished job's objects with other names and the owners' new uids, and write each
    status."""
    uids: dict[str, str] = {}
    for obj in finished:
        meta = obj["metadata"]
        metadata: dict[str, Any] = {
            "name": f"{meta['name'][:50]}-{n}",
            "namespace": "default",
            "labels": {k: v for k, v in meta.get("labels", {}).items() if "controller-uid" not in k},
        }
        if "ownerReferences" in meta:
            owner = meta["ownerReferences"][0]
            metadata["ownerReferences"] = [
                owner | {"name": f"{owner['name'][:50]}-{n}", "uid": uids[owner["uid"]]}
            ]
        made = post(api, obj | {"metadata": metadata})
        uids[meta["uid"]] = made["metadata"]["uid"]
        if "status" in obj:
            put_status(api, made | {"status": obj["status"]})


if __name__ == "__main__":
    sys.exit(main())
