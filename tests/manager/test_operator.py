"""The operator's process on a real API server, with real Jobs and tokens, and simulated pods."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from support.api_server import ApiServer
from support.fake_kubelet import Address, FakeKubelet, FakePod
from support.forged import forged_pod, release
from support.held_writes import held_status_writes
from support.helm import NAMESPACE
from support.operator_command import SERVICE, OperatorCommand, operator
from support.team import Team
from support.waiting import eventually
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.report import Report, report_audience
from tunegate_operator.engine.lease import DURATION, RETRY
from tunegate_operator.manager import LEASE, STOP_SECONDS

pytestmark = [
    pytest.mark.cluster,
    # A simulated pod may be connecting when the operator is killed. Then urllib3 leaves the socket open.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
    ),
]


def test_applied_job_succeeds(server, team, kubelet, tmp_path):
    log = tmp_path / "operator.log"
    with operator(server, log), kubelet.running():
        team.apply_all()
        team.wait_for("Succeeded", "Failed")
        status = team.job()["status"]
    assert kubelet.failures == []
    assert "forbidden" not in log.read_text().lower()
    assert status["phase"] == "Succeeded", status["message"]
    assert [c["step"] for c in status["checkpoints"]] == [10, 20, 30, 40, 50]
    assert status["final"]["verdict"] == "Passed"
    assert len(team.jobs()) == 4
    events = client.CoreV1Api(team.api).list_namespaced_event(team.namespace).items
    assert "Succeeded" in [e.reason for e in events if e.involved_object.kind == "FineTuneJob"]


@pytest.mark.parametrize("phase", ["Pending", "Validating", "Queued", "Training", "Gating", "Publishing"])
def test_job_succeeds_when_operator_is_killed_in_any_phase(server, team, kubelet, tmp_path, phase):
    log = tmp_path / "operator.log"
    with kubelet.running():
        with operator(server, log, POD_NAME="first") as first:
            killer = threading.Thread(target=_kill_in, args=(team, first, phase))
            killer.start()
            team.apply_all()
            killer.join(60)
        with operator(server, log, POD_NAME="second"):
            team.wait_for("Succeeded", "Failed", seconds=90)
    assert kubelet.failures == []
    assert team.phase() == "Succeeded", team.job()["status"]["message"]
    assert len(team.jobs()) == 4


def _kill_in(team: Team, command: Any, phase: str) -> None:
    def reached() -> bool:
        try:
            return team.phase() == phase
        except ApiException:
            return False

    try:
        eventually(reached, seconds=50, pause=0.005, what=phase)
    finally:
        command.kill()


def test_second_operator_leads_as_soon_as_the_first_stops(server, team, kubelet, tmp_path):
    with (
        _leading(server, team, tmp_path / "a.log", "a") as a,
        operator(server, tmp_path / "b.log", POD_NAME="b") as b,
        kubelet.running(),
    ):
        assert a.stop() == 0
        probes: list[int] = []

        def leads() -> bool:  # probes run meanwhile, because threads start when b takes the Lease
            probes.extend(b.probe("/healthz") for _ in range(20))
            return _leader(team.api) == "b"

        eventually(leads, seconds=10, pause=0.001, what="b leads")
        assert set(probes) == {200}
        team.apply_all()
        team.wait_for("Succeeded")


@pytest.mark.parametrize("seconds", [2 * RETRY, STOP_SECONDS + 2])
def test_stopping_operator_keeps_the_lease_until_its_status_write_ends(
    server, team, kubelet, tmp_path, seconds
):
    """Otherwise another leader could decide before the status write in progress is visible."""
    with (
        _leading(server, team, tmp_path / "a.log", "a") as a,
        operator(server, tmp_path / "b.log", POD_NAME="b"),
        kubelet.running(),
    ):
        with held_status_writes(team.api, tmp_path) as is_held:
            team.apply_all()
            assert is_held.wait(30)
            a.process.terminate()
            asked = time.monotonic()
            while time.monotonic() - asked < seconds:  # long enough for another process to take the Lease
                assert _leader(team.api) == "a"
                time.sleep(0.1)
        # If the process stops waiting for the response, the Lease must expire.
        runs_out = DURATION if seconds > STOP_SECONDS else 0
        eventually(lambda: _leader(team.api) == "b", seconds=runs_out + 3 * RETRY, what="b leads")
        assert a.process.wait(10) == 0
        team.wait_for("Succeeded")


def test_operator_that_loses_the_lease_exits(server, team, tmp_path):
    leases = client.CoordinationV1Api(team.api)
    with _leading(server, team, tmp_path / "operator.log", "a") as a:
        leases.patch_namespaced_lease(LEASE, NAMESPACE, {"spec": {"holderIdentity": "another"}})
        assert a.process.wait(30) == 1
    leases.delete_namespaced_lease(LEASE, NAMESPACE)  # nobody renews it


def test_job_suspended_under_one_operator_resumes_under_the_next(server, team, kubelet, tmp_path):
    log = tmp_path / "operator.log"
    with kubelet.running():
        with operator(server, log, POD_NAME="first") as first:
            team.apply_all()
            team.wait_for("Training")
            team.change(suspend=True)
            team.wait_for("Suspended")
            first.kill()
        team.change(suspend=False)
        with operator(server, log, POD_NAME="second"):
            team.wait_for("Succeeded", "Failed", seconds=90)
    assert team.phase() == "Succeeded", team.job()["status"]["message"]


@contextmanager
def _leading(server: ApiServer, team: Team, log: Path, name: str) -> Iterator[OperatorCommand]:
    """Start an operator, and wait until it leads."""
    with operator(server, log, POD_NAME=name) as command:
        eventually(lambda: _leader(team.api) == name, seconds=3 * DURATION, what=f"{name} leads")
        yield command


def _leader(api: client.ApiClient) -> str | None:
    try:
        lease = client.CoordinationV1Api(api).read_namespaced_lease(LEASE, NAMESPACE)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return None  # nobody has led on this server yet
    holder: str | None = lease.spec.holder_identity
    return holder


class Waiting(FakeKubelet):
    """A kubelet whose data pods start and then do nothing."""

    def run_pod(self, pod: FakePod) -> None:
        pod.start()


def test_forged_reports_are_refused(server, api, team, tmp_path):
    kubelet = Waiting(api, Address(api, NAMESPACE, SERVICE))
    other = Team(api, f"{team.namespace}-other")
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply_all()
        other.apply_all()
        pods = eventually(
            lambda: list(kubelet.seen.values()) if len(kubelet.seen) == 2 else None, what="pods"
        )
        ours = next(p for p in pods if p.job_uid == team.job()["metadata"]["uid"])
        theirs = next(p for p in pods if p is not ours)
        body = _report(ours.job_uid)
        accepted = ours.token(report_audience(ours.job_uid))
        forged = {
            "another job's token": theirs.token(report_audience(theirs.job_uid)),
            "another job's pod": theirs.token(report_audience(ours.job_uid)),
            "another audience": ours.token("https://kubernetes.default.svc"),
            "no token": "nonsense",
        }
        assert {name: ours.post(body, token) for name, token in forged.items()} == dict.fromkeys(forged, 403)
        assert eventually(lambda: ours.post(body, accepted) == 200, what="the real one")


def test_pod_in_another_namespace_is_refused(server, api, team, tmp_path):
    address = Address(api, NAMESPACE, SERVICE)
    kubelet, core = Waiting(api, address), client.CoreV1Api(api)
    attacker = Team(api, f"{team.namespace}-attacker").namespace
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply_all()
        ours = eventually(lambda: next(iter(kubelet.seen.values()), None), what="its pod")
        pod = core.list_namespaced_pod(team.namespace).items[0]
        forged = forged_pod(api, attacker, pod, ours.job_uid, address)
        body = _report(ours.job_uid)
        eventually(lambda: forged.post(body) == 403, what="the forged pod is known, and refused")
        log = (tmp_path / "operator.log").read_text()
        assert (
            f"the token belongs to a pod in namespace {attacker}, but the job is in another namespace" in log
        )
        assert eventually(lambda: ours.post(body) == 200, what="the real one")
        release(api, attacker)


def _report(uid: str) -> bytes:
    made = Report(
        job_uid=uid, role=Role.DATA, attempt=1, sequence=1, time=datetime.now(UTC), outcome=Outcome.COMPLETED
    )
    return made.model_dump_json(by_alias=True, exclude_none=True).encode()


def test_deleted_job_leaves_no_children(server, team, kubelet, tmp_path):
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply_all()
        team.wait_for("Training")
        team.delete()
        eventually(lambda: team.children() == [], seconds=60, what="no children")


def test_deleted_report_endpointslice_is_restored_by_the_next_resync(server, api, tmp_path):
    slices = client.DiscoveryV1Api(api)

    def uid() -> str | None:
        listed = slices.list_namespaced_endpoint_slice(NAMESPACE).items
        return next((found.metadata.uid for found in listed if found.metadata.name == SERVICE), None)

    log = tmp_path / "operator.log"
    with operator(server, log, TUNEGATE_RESYNC_SECONDS="10"):
        eventually(
            lambda: "started reconciling" in log.read_text(), what="it leads and has published its address"
        )
        first = uid()
        slices.delete_namespaced_endpoint_slice(SERVICE, NAMESPACE)
        eventually(lambda: uid() not in (None, first), seconds=40, what="it is known again")


def test_each_decision_is_one_json_log_line(server, team, kubelet, tmp_path):
    log = tmp_path / "operator.log"
    with operator(server, log), kubelet.running():
        team.apply_all()
        team.wait_for("Succeeded")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    decided = [line for line in lines if line.get("namespace") == team.namespace]
    phases = [line["phase"] for line in decided if line["kind"] == "FineTuneJob"]
    assert [p for p, _ in itertools.groupby(phases)][-1] == "Succeeded"
    created = [action for line in decided for action in line["actions"] if action.startswith("create Job ")]
    assert len(created) == len(set(created)) == len(team.jobs()) == 4
    messages = [line["message"] for line in decided]
    assert all(one != other for one, other in itertools.pairwise(messages)), "no message is repeated"
