"""An attacker with all permissions in their own namespace cannot affect another team's job.

While the other team's job trains, the attacker creates Jobs that name it as their owner, and pods that send
reports about it. The attacker also loads the operator with large ConfigMaps, large FineTuneJobs, large
request bodies and idle connections.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from kubernetes import client

from support.attacker import Attacker, Target
from support.fake_kubelet import Address
from support.first_decisions import first_decisions
from support.helm import NAMESPACE
from support.masking import masked_status
from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually
from support.waiting_job import waiting_job
from tunegate_api.contract.report import REPORT_CA_VARIABLE, REPORT_URL_VARIABLE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

GROUP = ("tunegate.dev", "v1alpha2")
MAPS, MIN_MAPS, MAP_SECONDS = 100, 30, 120
"""Number of ConfigMaps of 1 MB to create, the least number that a slow node must accept, and the timeout in
seconds."""
LARGE_JOBS, MIN_JOBS = 50, 20
"""Number of FineTuneJobs of 1.2 MB to create within MAP_SECONDS, and the least number that a slow node must
accept."""
BODIES, BODY_BYTES = 20, 8_000_000
CONNECTIONS = 300
TIMED_JOBS = 10
"""Number of jobs that a third team applies during each half of the attack."""
MAX_SECONDS = 2.0
"""Limit for the seconds from the watch event of such a job to the operator's first decision. The time that
the API server needs for the job is not the operator's."""
MAX_BYTES = 250_000_000
MAX_GROWTH = 60_000_000
"""Limit for the growth of the operator's memory, in bytes. The ConfigMaps alone have 100 MB, so the operator
must not keep them."""


@dataclass(frozen=True)
class Namespaces:
    victim: str
    undisturbed: str
    attacker: str
    third: str


@pytest.fixture
def namespaces(node: Node, namespace: str) -> Iterator[Namespaces]:
    """Namespaces of the victim, named after the test, and of the other teams."""
    others = [f"{namespace[:50]}-{who}" for who in ("undisturbed", "attacker", "third")]
    try:
        for name in others:
            node.kubectl("create", "namespace", name)
        yield Namespaces(namespace, *others)
    finally:
        node.kubectl("delete", "namespace", *others, "--ignore-not-found", "--timeout=300s")


def test_attacker_in_another_namespace_cannot_affect_a_training_job(
    node: Node, namespaces: Namespaces, show: Callable[[str], None]
) -> None:
    node.install()
    undisturbed = TinyJob(node, namespaces.undisturbed)
    undisturbed.apply(LONG)
    assert undisturbed.ended()["phase"] == "Succeeded", undisturbed.status()["message"]

    address = Address(node.client, NAMESPACE, "tunegate-reports")  # not secret: every pod can read it
    attacker = Attacker(node.client, namespaces.attacker, address, node.image("trainer"))
    job = TinyJob(node, namespaces.victim)
    leader = node.leader()
    seconds_to_status(node, namespaces.third, "first")
    with ExitStack() as held, memory_of(node, leader) as memory, ThreadPoolExecutor(2) as attacks:
        job.apply(LONG)
        target = target_of(node, job)
        attacker.claim(target)
        attacker.forge_reports(target)
        assert job.status()["phase"] == "Training", "the attack came too late to show anything"

        decisions = held.enter_context(first_decisions(node.client, namespaces.third))
        connections = attacker.open_connections(target, CONNECTIONS, held)
        maps = attacks.submit(attacker.fill_config_maps, MAPS, MAP_SECONDS)
        bodies = attacks.submit(attacker.post_large_bodies, target, BODIES, BODY_BYTES)
        waits = [seconds_to_status(node, namespaces.third, f"look-{n}") for n in range(TIMED_JOBS)]
        bodies.result()
        stored = maps.result()
        large_jobs = attacks.submit(attacker.create_large_jobs, LARGE_JOBS, MAP_SECONDS)
        later = [seconds_to_status(node, namespaces.third, f"later-{n}") for n in range(TIMED_JOBS)]
        decided = [
            max(decisions.seconds(job) for job in jobs_of(node, namespaces.third, prefix))
            for prefix in ("look-", "later-")
        ]
        created = large_jobs.result()
        attacker.forge_reports(target)
        job.ended()

    show(
        f"operator: {memory[0] / 1e6:.0f} to {max(memory) / 1e6:.0f} MB; from the watch event of a new job "
        f"to its first decision: at most {decided[0]:.2f} s, while large FineTuneJobs come in "
        f"{decided[1]:.2f} s; from its creation to its first status: at most {max(waits):.2f} and "
        f"{max(later):.2f} s"
    )
    assert connections, "the report address was not reached"
    assert stored >= MIN_MAPS, f"the API server took only {stored} large ConfigMaps"
    assert created >= MIN_JOBS, f"the API server took only {created} large FineTuneJobs"
    assert any(answer >= 400 for answer in attacker.answers), "no report was answered"
    assert 200 not in attacker.answers, "a forged report was accepted"
    assert outcome_of(job) == outcome_of(undisturbed)
    assert masked_status(job.get()) == masked_status(undisturbed.get())
    assert node.leader() == leader
    assert max(memory) < MAX_BYTES
    assert max(memory) - memory[0] < MAX_GROWTH
    assert max(decided) < MAX_SECONDS, decided


@contextmanager
def memory_of(node: Node, operator: str) -> Iterator[list[int]]:
    """Measure the resident memory of an operator pod's process, in bytes, repeatedly until the context
    ends."""
    process, stop = node.process(operator), threading.Event()
    seen = [process.memory_info().rss]

    def look() -> None:
        with suppress(psutil.NoSuchProcess):  # then another pod leads, which the test reports
            while not stop.wait(0.2):
                seen.append(process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def target_of(node: Node, job: TinyJob) -> Target:
    """Wait until a job's training pod runs. Returns what an attacker may know about the job."""

    def running() -> str:
        pods = job.pods("train")
        return pods[0]["metadata"]["name"] if pods and pods[0]["status"]["phase"] == "Running" else ""

    name = eventually(running, seconds=300, what=f"{job.name} trains", pause=0.3)
    pod = node.get("pod", name, job.namespace)
    environment = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}
    gate = next(obj for obj in job.manifests() if obj["kind"] == "EvalGate")
    return Target(
        uid=job.get()["metadata"]["uid"],
        name=job.name,
        url=environment[REPORT_URL_VARIABLE],
        authority=environment[REPORT_CA_VARIABLE],
        golden_sha256=gate["spec"]["sets"][0]["sha256"],
        cases=20,
        stage="sft",
        last_step=int(str(LONG["maxSteps"])),
    )


def seconds_to_status(node: Node, namespace: str, name: str) -> float:
    """Apply a small job. Returns the seconds until its first status."""
    custom = client.CustomObjectsApi(node.client)
    custom.create_namespaced_custom_object(*GROUP, namespace, "finetunejobs", waiting_job(name))
    began = time.monotonic()

    def has_status() -> bool:
        found = custom.get_namespaced_custom_object(*GROUP, namespace, "finetunejobs", name)
        return "phase" in found.get("status", {})

    eventually(has_status, seconds=60, what=f"a status of {name}", pause=0.05)
    return time.monotonic() - began


def jobs_of(node: Node, namespace: str, prefix: str) -> list[dict[str, Any]]:
    """Return the FineTuneJobs in a namespace whose name starts with ``prefix``."""
    custom = client.CustomObjectsApi(node.client)
    found = custom.list_namespaced_custom_object(*GROUP, namespace, "finetunejobs")["items"]
    return [job for job in found if job["metadata"]["name"].startswith(prefix)]


def outcome_of(job: TinyJob) -> dict[str, Any]:
    """Return a summary of a job's result. A difference between two summaries is easier to see than one
    between whole statuses."""
    status = job.status()
    checkpoints = status.get("checkpoints", [])
    return {
        "phase": status.get("phase"),
        "verdict": status.get("final", {}).get("verdict"),
        "checkpoints": [(point["step"], point.get("task"), point.get("gates")) for point in checkpoints],
        "published": [artifact["digest"] for artifact in status.get("published", [])],
        # Reports that were sent late have their own Job.
        "jobs": [one for one in job.child_jobs() if not one.startswith("report ")],
    }
