"""etcd is restored from a backup while a replica of the operator waits to lead."""

import pytest
from kubernetes import client

from support.fake_kubelet import Address, FakeKubelet
from support.helm import NAMESPACE
from support.operator_command import SERVICE, OperatorCommand, operator
from support.samples import scrape
from support.waiting import eventually

pytestmark = pytest.mark.cluster


def new_kubelet(api: client.ApiClient) -> FakeKubelet:
    return FakeKubelet(api, Address(api, NAMESPACE, SERVICE))


def is_watching(replica: OperatorCommand) -> bool:
    """Return whether a replica watches ConfigMaps: it has read their version, and has listed them."""
    request = {"method": "GET", "resource": "configmaps", "code": "200"}
    name = ("tunegate_api_requests_total", frozenset(request.items()))
    return scrape(replica.health_port).get(name, 0) >= 3


def test_job_resumes_after_etcd_is_restored_from_a_backup(server, api, team, tmp_path):
    """The waiting replica has cached the end of the job, which the backup does not have."""
    with operator(server, tmp_path / "first.log", POD_NAME="first"):
        team.apply_all()
        eventually(team.jobs, what="the data pod is created")
    backup = server.back_up()
    with operator(server, tmp_path / "second.log", POD_NAME="second") as leader:
        with new_kubelet(api).running():
            team.wait_for("Succeeded")
        with operator(server, tmp_path / "waiting.log", POD_NAME="waiting") as waiting:
            eventually(lambda: is_watching(waiting), seconds=60, what="the replica has filled its cache")
            leader.kill()
            server.restore(backup)
            assert waiting.process.wait(60) == 1
    assert "etcd was restored from a backup" in waiting.log.read_text()
    assert team.phase() == "Pending"
    with operator(server, tmp_path / "third.log", POD_NAME="third"), new_kubelet(api).running():
        team.wait_for("Succeeded", seconds=90)
