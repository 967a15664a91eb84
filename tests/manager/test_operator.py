"""The operator's process on a real API server, with real Jobs and tokens, and pods that a test plays."""

import itertools
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from support.api_server import ApiServer
from support.builders import golden_text, make_config_map, make_gate, make_job
from support.operator_command import NAMESPACE, SERVICE, operator
from support.played_kubelet import Address, PlayedKubelet, PlayedPod
from support.waiting import eventually
from tunegate_api.contract import Outcome, Report, Role, report_audience

pytestmark = pytest.mark.cluster
GROUP = ("tunegate.dev", "v1alpha1")
_names = (f"operator-{n}" for n in itertools.count())


class Cluster:
    """What a user does, in a namespace of the test's own."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self._core, self._custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
        self._core.create_namespace({"metadata": {"name": namespace}})
        eventually(self._has_account, what="the namespace's service account")

    def apply(self, *objects: dict[str, Any]) -> None:
        for obj in objects:
            obj["metadata"]["namespace"] = self.namespace
            if obj["kind"] == "ConfigMap":
                self._core.create_namespaced_config_map(self.namespace, obj)
            else:
                plural = f"{obj['kind'].lower()}s"
                self._custom.create_namespaced_custom_object(*GROUP, self.namespace, plural, obj)

    def apply_all(self) -> None:
        rows, cases = (
            make_config_map("rows", train__jsonl="{}"),
            make_config_map("cases", golden__jsonl=golden_text()),
        )
        self.apply(rows, cases, make_gate().obj(), make_job().with_publish().obj())

    def job(self, name: str = "orders") -> dict[str, Any]:
        found: dict[str, Any] = self._custom.get_namespaced_custom_object(
            *GROUP, self.namespace, "finetunejobs", name
        )
        return found

    def phase(self) -> str | None:
        phase: str | None = self.job().get("status", {}).get("phase")
        return phase

    def wait_for(self, *phases: str, seconds: float = 60) -> None:
        eventually(lambda: self.phase() in phases, seconds=seconds, what=" or ".join(phases))

    def delete(self) -> None:
        self._custom.delete_namespaced_custom_object(*GROUP, self.namespace, "finetunejobs", "orders")

    def children(self) -> list[str]:
        jobs = client.BatchV1Api(self.api).list_namespaced_job(self.namespace).items
        pods = self._core.list_namespaced_pod(self.namespace).items
        maps = self._core.list_namespaced_config_map(self.namespace).items
        owned = [o for o in (*jobs, *pods, *maps) if o.metadata.owner_references]
        return sorted(o.metadata.name for o in owned)

    def jobs(self) -> list[str]:
        return sorted(
            j.metadata.name for j in client.BatchV1Api(self.api).list_namespaced_job(self.namespace).items
        )

    def _has_account(self) -> bool:
        try:
            return bool(self._core.read_namespaced_service_account("default", self.namespace))
        except ApiException:
            return False


@pytest.fixture
def api(server: ApiServer) -> Iterator[client.ApiClient]:
    with server.client(connection_pool_maxsize=40) as api:
        yield api


@pytest.fixture
def cluster(api: client.ApiClient) -> Cluster:
    return Cluster(api, f"team-{next(_names)}")


@pytest.fixture
def kubelet(api: client.ApiClient) -> PlayedKubelet:
    return PlayedKubelet(api, Address(api, NAMESPACE, SERVICE))


def test_a_job_lives_from_apply_to_succeeded(server, cluster, kubelet, tmp_path):
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        cluster.apply_all()
        cluster.wait_for("Succeeded", "Failed")
        status = cluster.job()["status"]
    assert kubelet.failures == []
    assert status["phase"] == "Succeeded", status["message"]
    assert [c["step"] for c in status["checkpoints"]] == [10, 20, 30, 40, 50]
    assert status["final"]["verdict"] == "Passed"
    assert len(cluster.jobs()) == 4
    events = client.CoreV1Api(cluster.api).list_namespaced_event(cluster.namespace).items
    assert "Succeeded" in [e.reason for e in events if e.involved_object.kind == "FineTuneJob"]


@pytest.mark.parametrize("phase", ["Pending", "Validating", "Queued", "Training", "Gating", "Publishing"])
def test_an_operator_that_is_killed_in_any_phase_is_followed_without_loss(
    server, cluster, kubelet, tmp_path, phase
):
    log = tmp_path / "operator.log"
    with kubelet.running():
        with operator(server, log, POD_NAME="first") as first:
            killer = threading.Thread(target=_kill_in, args=(cluster, first, phase))
            killer.start()
            cluster.apply_all()
            killer.join(60)
        with operator(server, log, POD_NAME="second"):
            cluster.wait_for("Succeeded", "Failed", seconds=90)
    assert kubelet.failures == []
    assert cluster.phase() == "Succeeded", cluster.job()["status"]["message"]
    assert len(cluster.jobs()) == 4


def _kill_in(cluster: Cluster, command: Any, phase: str) -> None:
    def reached() -> bool:
        try:
            return cluster.phase() == phase
        except ApiException:
            return False

    try:
        eventually(reached, seconds=50, pause=0.005, what=phase)
    finally:
        command.kill()


def test_the_second_operator_leads_as_soon_as_the_first_stops(server, cluster, kubelet, tmp_path):
    with (
        operator(server, tmp_path / "a.log", POD_NAME="a") as a,
        operator(server, tmp_path / "b.log", POD_NAME="b") as b,
        kubelet.running(),
    ):
        eventually(lambda: _leader(cluster.api) == "a", what="a leads")
        assert a.stop() == 0
        probes: list[int] = []

        def leads() -> bool:  # probed all the while: its threads start as it takes the Lease
            probes.extend(b.probe("/healthz") for _ in range(20))
            return _leader(cluster.api) == "b"

        eventually(leads, seconds=10, pause=0.001, what="b leads")
        assert set(probes) == {200}
        cluster.apply_all()
        cluster.wait_for("Succeeded")


def _leader(api: client.ApiClient) -> str | None:
    lease = client.CoordinationV1Api(api).read_namespaced_lease("tunegate-operator", NAMESPACE)
    holder: str | None = lease.spec.holder_identity
    return holder


class Waiting(PlayedKubelet):
    """Its data pods start and then do nothing."""

    def play(self, pod: PlayedPod) -> None:
        pod.start()


def test_forged_reports_are_refused(server, api, cluster, tmp_path):
    kubelet = Waiting(api, Address(api, NAMESPACE, SERVICE))
    other = Cluster(api, f"{cluster.namespace}-other")
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        cluster.apply_all()
        other.apply_all()
        pods = eventually(
            lambda: list(kubelet.seen.values()) if len(kubelet.seen) == 2 else None, what="pods"
        )
        ours = next(p for p in pods if p.job_uid == cluster.job()["metadata"]["uid"])
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


def _report(uid: str) -> bytes:
    made = Report(
        job_uid=uid, role=Role.DATA, attempt=1, sequence=1, time=datetime.now(UTC), outcome=Outcome.COMPLETED
    )
    return made.model_dump_json(by_alias=True, exclude_none=True).encode()


def test_a_deleted_job_leaves_nothing(server, cluster, kubelet, tmp_path):
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        cluster.apply_all()
        cluster.wait_for("Training")
        cluster.delete()
        eventually(lambda: cluster.children() == [], seconds=60, what="no children")


def test_a_report_address_that_somebody_removed_is_back_with_the_next_resync(server, api, tmp_path):
    slices = client.DiscoveryV1Api(api)

    def uid() -> str | None:
        listed = slices.list_namespaced_endpoint_slice(NAMESPACE).items
        return next((found.metadata.uid for found in listed if found.metadata.name == SERVICE), None)

    log = tmp_path / "operator.log"
    with operator(server, log, TUNEGATE_RESYNC_SECONDS="10"):
        eventually(lambda: "deciding since" in log.read_text(), what="it leads, and has said where it is")
        first = uid()
        slices.delete_namespaced_endpoint_slice(SERVICE, NAMESPACE)
        eventually(lambda: uid() not in (None, first), seconds=40, what="it is known again")


def test_decisions_are_one_json_line_each(server, cluster, kubelet, tmp_path):
    log = tmp_path / "operator.log"
    with operator(server, log), kubelet.running():
        cluster.apply_all()
        cluster.wait_for("Succeeded")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    decided = [line for line in lines if line.get("namespace") == cluster.namespace]
    phases = [line["phase"] for line in decided if line["kind"] == "FineTuneJob"]
    assert [p for p, _ in itertools.groupby(phases)][-1] == "Succeeded"
    created = [action for line in decided for action in line["actions"] if action.startswith("create Job ")]
    assert len(created) == len(set(created)) == len(cluster.jobs()) == 4
    said = [line["message"] for line in decided]
    assert all(one != other for one, other in itertools.pairwise(said)), "each line says something new"
