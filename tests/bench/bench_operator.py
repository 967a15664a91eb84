"""Measure the operator's load on a real API server, and its latency and memory: ``make bench-operator``.
Command line arguments name the parts of the benchmark to run.

The kubelet is fake (:mod:`support.fake_kubelet`). The API server, the Job controller, tokens, garbage
collection and the audit log are real. Prints a table, and writes build/bench/operator.json.
"""

import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import urllib3
from kubernetes import client, watch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from judged_jobs import LAST_STEP, WaitingKubelet, final_results, stage_results
from measures import RESULTS, Measure, run

from support.api_server import OPERATOR, ApiServer, api_server
from support.builders import golden_text, make_config_map, make_gate, make_job
from support.fake_kubelet import Address, FakeKubelet, FakePod
from support.helm import NAMESPACE
from support.operator_command import SERVICE, OperatorCommand, grant_rights, operator
from support.waiting import eventually
from support.world import STAGE
from tunegate_api.contract import Outcome, Role, sha256_text
from tunegate_api.v1alpha1.finetunejob_status import Progress

GROUP = ("tunegate.dev", "v1alpha1")
COUNTED_SEPARATELY = {"leases", "events", "tokenreviews"}
"""Kinds of objects whose writes are counted separately, because their number depends on time, on recorded
events or on the number of pods."""
WRITES = {"create", "update", "patch", "delete"}
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
        },
        versions=f"kubernetes client {version('kubernetes')}, kopf {version('kopf')}",
    )


@contextmanager
def cluster(**options: Any) -> Iterator[tuple[ApiServer, client.ApiClient]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        api_server(Path(folder), **options) as server,
        server.client(connection_pool_maxsize=64) as api,
    ):
        grant_rights(api)
        yield server, api


def apply(api: client.ApiClient, *names: str) -> None:
    """Create the shared inputs, wait until the gate is ready, then create one job for each name."""
    apply_inputs(api)
    apply_jobs(api, *names)


def apply_inputs(api: client.ApiClient, golden: str = golden_text()) -> None:
    """Create ConfigMaps and the gate in the default namespace, and wait until the gate is ready."""
    core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
    core.create_namespaced_config_map("default", make_config_map("rows", train__jsonl="{}"))
    core.create_namespaced_config_map("default", make_config_map("cases", golden__jsonl=golden))
    source = {"source": {"configMap": "cases"}, "sha256": sha256_text(golden)}
    gate = make_gate().with_spec(golden=source).obj()
    custom.create_namespaced_custom_object(*GROUP, "default", "evalgates", gate)
    eventually(lambda: _gate_is_ready(custom), seconds=60, what="the gate is ready")


def _gate_is_ready(custom: client.CustomObjectsApi) -> bool:
    gate = custom.get_namespaced_custom_object(*GROUP, "default", "evalgates", "golden")
    return any(c["status"] == "True" for c in gate.get("status", {}).get("conditions", ()))


def apply_jobs(api: client.ApiClient, *names: str) -> None:
    custom = client.CustomObjectsApi(api)
    for name in names:
        job = make_job(name).with_publish().obj()
        custom.create_namespaced_custom_object(*GROUP, "default", "finetunejobs", job)


def jobs(api: client.ApiClient) -> list[dict[str, Any]]:
    found = client.CustomObjectsApi(api).list_namespaced_custom_object(*GROUP, "default", "finetunejobs")
    items: list[dict[str, Any]] = found["items"]
    return items


def phases(api: client.ApiClient) -> Counter[str]:
    return Counter(job.get("status", {}).get("phase", "") for job in jobs(api))


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


def our_writes(server: ApiServer) -> Counter[tuple[str, str]]:
    """Return the number of the operator's writes so far, by verb and resource, from the audit log."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in server.audit_log.read_text().splitlines():
        event = json.loads(line)
        what = event.get("objectRef", {})
        if event["user"]["username"] == OPERATOR and event["verb"] in WRITES:
            resource = what.get("resource", "") + (f"/{what['subresource']}" if "subresource" in what else "")
            counts[event["verb"], resource] += 1
    return counts


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


def percentiles(name: str, seconds: list[float], target: str) -> list[Measure]:
    ranked = sorted(seconds)
    p99 = ranked[max(0, round(0.99 * len(ranked)) - 1)]
    return [
        Measure(f"{name}, p50", round(statistics.median(ranked), 3), "s"),
        Measure(f"{name}, p99", round(p99, 3), "s", target),
    ]


@contextmanager
def watched(api: client.ApiClient, is_shown: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, float]]:
    """Watch the jobs. Yields the times at which ``is_shown`` was first true of each job's status, by uid."""
    seen: dict[str, float] = {}
    stop = threading.Event()

    def watch_jobs() -> None:
        stream = watch.Watch().stream(
            client.CustomObjectsApi(api).list_namespaced_custom_object,
            *GROUP,
            "default",
            "finetunejobs",
            timeout_seconds=300,
        )
        with suppress(urllib3.exceptions.HTTPError):  # the server is stopped first
            for event in stream:
                obj = event["object"]
                if is_shown(obj.get("status", {})):
                    seen.setdefault(obj["metadata"]["uid"], time.monotonic())
                if stop.is_set():
                    return

    threading.Thread(target=watch_jobs, daemon=True).start()
    time.sleep(2)
    yield seen
    stop.set()


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
            before = _processor_seconds(process)
            seconds = timed_reports(
                api, training, lambda status: _last_step(status) == LAST_STEP, results=results
            )
            used = (_processor_seconds(process) - before) / JUDGED_JOBS
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


def _processor_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


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


def run_one_job() -> list[dict[str, Any]]:
    """Run one job. Returns its objects as the API server has them, the FineTuneJob first."""
    with cluster() as (server, api):
        kubelet = FakeKubelet(api, Address(api, NAMESPACE, SERVICE))
        with operator(server, server.folder / "operator.log"), kubelet.running():
            apply(api, "orders")
            eventually(lambda: phases(api)["Succeeded"] == 1, seconds=120, what="Succeeded")
            kinds = {"Job": "/apis/batch/v1", "Pod": "/api/v1", "ConfigMap": "/api/v1"}
            found = jobs(api)
            for kind, root in kinds.items():
                path = f"{root}/namespaces/default/{kind.lower()}s"
                known = {obj["metadata"]["uid"] for obj in found}
                for item in _send(api, "GET", path)["items"]:
                    owners = item["metadata"].get("ownerReferences", [])
                    if any(owner["uid"] in known for owner in owners):  # not the records of the EvalGate
                        found.append(
                            {
                                "apiVersion": root.removeprefix("/apis/").removeprefix("/api/"),
                                "kind": kind,
                                **item,
                            }
                        )
            return found


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
        made = _post(api, obj | {"metadata": metadata})
        uids[meta["uid"]] = made["metadata"]["uid"]
        if "status" in obj:
            _put_status(api, made | {"status": obj["status"]})


def _path(obj: dict[str, Any]) -> str:
    root = "/api/v1" if obj["apiVersion"] == "v1" else f"/apis/{obj['apiVersion']}"
    return f"{root}/namespaces/default/{obj['kind'].lower()}s"


def _post(api: client.ApiClient, obj: dict[str, Any]) -> dict[str, Any]:
    if obj["kind"] == "Job":
        obj = obj | {"spec": _fresh_job_spec(obj["spec"])}
    return _send(api, "POST", _path(obj), {k: v for k, v in obj.items() if k != "status"})


def _put_status(api: client.ApiClient, obj: dict[str, Any]) -> None:
    _send(api, "PUT", f"{_path(obj)}/{obj['metadata']['name']}/status", obj)


def _send(
    api: client.ApiClient, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
    answer = api.call_api(method, api.configuration.host + path, headers, body)
    text: dict[str, Any] = json.loads(answer.read())
    assert answer.status < 300, text
    return text


def _fresh_job_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a Job's spec without the fields that the API server generated."""
    template = json.loads(json.dumps(spec["template"]))
    labels = template["metadata"].get("labels", {})
    template["metadata"]["labels"] = {
        k: v for k, v in labels.items() if "controller-uid" not in k and "job-name" not in k
    }
    return {k: v for k, v in spec.items() if k != "selector"} | {"template": template}


if __name__ == "__main__":
    sys.exit(main())
