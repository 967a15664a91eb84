"""Helm installs the operator from its image, with one or several replicas. Jobs survive an uninstall."""

import pytest

from support.helm import NAMESPACE, RELEASE
from support.node import Node
from support.waiting import eventually
from support.waiting_job import wait_until_served, waiting_job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def kinds(node: Node) -> list[str]:
    return node.kubectl("api-resources", "--api-group=tunegate.dev", "-o", "name").split()


def test_installed_operator_is_ready_and_receives_reports(node: Node) -> None:
    node.install()
    pod = node.get("pod", node.leader(), NAMESPACE)
    (endpoint,) = node.get("endpointslice", "tunegate-reports", NAMESPACE)["endpoints"]
    assert endpoint["addresses"] == [pod["status"]["podIP"]]
    assert kinds(node) == ["evalgates.tunegate.dev", "finetunejobs.tunegate.dev"]


def test_second_replica_takes_over_when_the_leader_is_deleted(node: Node) -> None:
    node.install(replicas=2)
    first = node.leader()
    assert len(node.operators()) == 2
    node.kubectl("delete", "pod", first, "-n", NAMESPACE, "--grace-period=0", "--force")

    def another() -> str:
        found = node.leader()
        return found if found != first else ""

    second = eventually(another, seconds=60, what="another leads", pause=1)
    pod = node.get("pod", second, NAMESPACE)

    def reached() -> bool:
        (endpoint,) = node.get("endpointslice", "tunegate-reports", NAMESPACE)["endpoints"]
        return bool(endpoint["addresses"] == [pod["status"]["podIP"]])

    eventually(reached, seconds=30, what="reports reach it", pause=1)
    node.install()


def test_jobs_survive_uninstall_and_are_reconciled_after_reinstall(node: Node, namespace: str) -> None:
    node.install()
    node.apply(namespace, waiting_job("before"))
    uid = node.get("ftj", "before", namespace)["metadata"]["uid"]

    done = node.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
    assert done.returncode == 0, done.stderr
    assert node.get("ftj", "before", namespace)["metadata"]["uid"] == uid
    node.apply(namespace, waiting_job("meanwhile"))

    node.install()
    wait_until_served(node, namespace, "before")
    wait_until_served(node, namespace, "meanwhile")
