"""Only a job's own pods may send reports about the job."""

from datetime import UTC, datetime

import pytest
from kubernetes import client

from support.fake_kubelet import Address, FakePod
from support.forged import forged_pod, release
from support.helm import NAMESPACE
from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.report import Report, report_audience

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def training_pod(node: Node, job: TinyJob) -> FakePod:
    """Wait until the job's training pod runs. Returns an object that posts reports in the name of this
    pod."""

    def running() -> str:
        pods = job.pods("train")
        return pods[0]["metadata"]["name"] if pods and pods[0]["status"]["phase"] == "Running" else ""

    name = eventually(running, seconds=240, what=f"{job.name} trains", pause=0.5)
    core = client.CoreV1Api(node.client)
    pod = core.read_namespaced_pod(name, job.namespace)
    return FakePod(node.client, Address(node.client, NAMESPACE, "tunegate-reports"), pod)


def test_pod_in_another_namespace_is_refused(node: Node, namespace: str) -> None:
    node.install()
    ours, attacker = TinyJob(node, namespace, "ours"), f"{namespace}-attacker"
    ours.apply(LONG)
    pod = training_pod(node, ours)
    core = client.CoreV1Api(node.client)
    own = next(p for p in core.list_namespaced_pod(namespace).items if p.metadata.labels == pod.labels)
    node.kubectl("create", "namespace", attacker)
    try:
        address = Address(node.client, NAMESPACE, "tunegate-reports")
        forged = forged_pod(node.client, attacker, own, pod.job_uid, address)
        stopped = Report(
            job_uid=pod.job_uid,
            role=Role.TRAIN,
            stage="sft",
            attempt=1,
            sequence=10**9,
            time=datetime.now(UTC),
            outcome=Outcome.STOPPED,
        )
        body = stopped.model_dump_json(by_alias=True, exclude_none=True).encode()
        eventually(lambda: forged.post(body) == 403, seconds=60, what="the forged pod is refused")
    finally:
        release(node.client, attacker)
        node.kubectl("delete", "namespace", attacker, "--timeout=120s")
    assert ours.ended()["phase"] == "Succeeded", "the forged report was not accepted"


def test_reports_with_tokens_of_other_jobs_or_audiences_are_refused(node: Node, namespace: str) -> None:
    node.install()
    ours, theirs = TinyJob(node, namespace, "ours"), TinyJob(node, namespace, "theirs")
    ours.apply(LONG)
    theirs.apply(LONG)
    pod, other = training_pod(node, ours), training_pod(node, theirs)
    forged = Report(
        job_uid=pod.job_uid,
        role=Role.TRAIN,
        stage="sft",
        attempt=1,
        sequence=10**9,
        time=datetime.now(UTC),
        outcome=Outcome.STOPPED,
    )
    body = forged.model_dump_json(by_alias=True, exclude_none=True).encode()
    tokens = {
        "another job's token": other.token(report_audience(other.job_uid)),
        "another job's pod": other.token(report_audience(pod.job_uid)),
        "another audience": pod.token("https://kubernetes.default.svc"),
        "no token": "nonsense",
    }
    answers = {name: pod.post(body, token) for name, token in tokens.items()}
    assert answers == dict.fromkeys(tokens, 403)
    assert ours.ended()["phase"] == "Succeeded", "no forged report was accepted"
