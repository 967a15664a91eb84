"""A user with Kubernetes' role ``edit`` in a job's own namespace cannot forge its records, Jobs and pods."""

from collections.abc import Iterator

import pytest

from support.child_attacks import User, attack, unexpected
from support.impersonation import acting_as
from support.masking import differences, masked_status
from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture
def undisturbed(node: Node, namespace: str) -> Iterator[TinyJob]:
    """The same job in another namespace, which nobody attacks."""
    other = f"{namespace[:50]}-undisturbed"
    node.kubectl("create", "namespace", other)
    yield TinyJob(node, other)
    node.kubectl("delete", "namespace", other, "--timeout=300s")


def test_attacks_on_a_training_job_are_refused_without_effect(
    node: Node, namespace: str, undisturbed: TinyJob
) -> None:
    node.install()
    undisturbed.apply(LONG)
    assert undisturbed.ended()["phase"] == "Succeeded", undisturbed.status()["message"]
    node.kubectl("create", "rolebinding", "editor", "--clusterrole=edit", "--user=editor", "-n", namespace)
    debug = ("--verb=patch", "--resource=pods/ephemeralcontainers")
    node.kubectl("create", "role", "debugger", *debug, "-n", namespace)
    node.kubectl("create", "rolebinding", "debugger", "--role=debugger", "--user=editor", "-n", namespace)
    user, job = User(acting_as(node.client, "editor"), namespace), TinyJob(node, namespace)

    job.apply(LONG)
    pod = eventually(lambda: running(job), seconds=300, what="the job trains", pause=0.3)
    assert unexpected(attack(user, job.get(), pod)) == {}
    assert job.status()["phase"] == "Training", "the attack came too late to show anything"
    assert job.ended()["phase"] == "Succeeded", job.status()["message"]
    attacked, expected = masked_status(job.get()), masked_status(undisturbed.get())
    assert attacked == expected, differences(attacked, expected)


def running(job: TinyJob) -> str:
    """Return the name of the training pod once it runs; empty before."""
    pods = job.pods("train")
    return pods[0]["metadata"]["name"] if pods and pods[0]["status"]["phase"] == "Running" else ""


@pytest.mark.parametrize("propagation", ["background", "foreground"])
def test_job_and_its_records_can_be_deleted(node: Node, namespace: str, propagation: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    eventually(lambda: running(job), seconds=300, what="the job trains", pause=0.3)
    node.kubectl("delete", "finetunejob", job.name, "-n", namespace, f"--cascade={propagation}")
    selector = f"tunegate.dev/job={job.name}"

    def is_clean() -> bool:
        kinds = ("configmap", "job", "pod")
        return not any(node.items(kind, namespace, selector) for kind in kinds)

    eventually(is_clean, seconds=180, what="records, Jobs and pods are deleted", pause=1)
