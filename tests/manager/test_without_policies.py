"""Nothing that users forge is believed, on a real API server without the chart's policies.

A user with Kubernetes' role ``edit`` creates pods and ConfigMaps that imitate those of a job. With the
policies, the API server refuses them: see ``test_refused_attacks.py``.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes import client

from support.api_server import ApiServer, api_server
from support.builders import golden_text, make_config_map, make_gate, make_job
from support.child_attacks import EVIL
from support.editor import make_editor
from support.fake_kubelet import FORGED, Address, FakePod
from support.forged_pods import FORGED_DIGEST, IMAGE_ID, ends, forgeries
from support.helm import NAMESPACE
from support.masking import differences, masked_status
from support.operator_command import SERVICE, grant_rights, operator
from support.paused_kubelet import PausedKubelet
from support.team import Team
from support.waiting import eventually
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.report import Report, report_audience
from tunegate_operator.engine.owners import owner_reference
from tunegate_operator.names import request_name

pytestmark = pytest.mark.cluster

CLAIMS = {"few-labels": "memory", "all-labels": "failure"}
"""What the pods claim in their status. The others claim that they completed, with a forged baseline."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server without the chart's policies."""
    with api_server(tmp_path_factory.mktemp("api-server")) as server, server.client() as api:
        grant_rights(api, "admissionPolicy.install=false")
        yield server


@pytest.fixture
def kubelet(api: client.ApiClient) -> PausedKubelet:
    return PausedKubelet(api, Address(api, NAMESPACE, SERVICE), Role.DATA, Role.TRAIN)


class Attack:
    """What a user with Kubernetes' role ``edit`` does to the pods of the job ``orders``."""

    def __init__(self, team: Team) -> None:
        self._team, self.user = team, make_editor(team)
        self._core, self._batch = client.CoreV1Api(team.api), client.BatchV1Api(team.api)
        self._address = Address(team.api, NAMESPACE, SERVICE)
        account = {"metadata": {"name": "evil"}}
        self._core.create_namespaced_service_account(team.namespace, account)

    def pod(self, role: Role, *, not_uid: str = "") -> Any:
        """Wait for the running pod of a role, which has another uid than ``not_uid``."""

        def running() -> Any:
            selector = f"tunegate.dev/role={role},!{FORGED}"
            pods = self._core.list_namespaced_pod(self._team.namespace, label_selector=selector).items
            return next((p for p in pods if p.status.phase == "Running" and p.metadata.uid != not_uid), None)

        return eventually(running, seconds=60, what=f"the {role} pod runs")

    def forge(self, pod: Any) -> set[int]:
        """Create forged pods of the Job of ``pod``, and let each send a report and end with its claim.
        Returns the status codes of the answers to the reports."""
        plain = self._team.api.sanitize_for_serialization
        child = self._batch.read_namespaced_job(pod.metadata.owner_references[0].name, self._team.namespace)
        forged = forgeries(plain(pod), plain(child) | {"apiVersion": "batch/v1", "kind": "Job"})
        relabelled = forged["all-labels"]["metadata"]
        forged["relabelled"] = {"metadata": {"labels": {FORGED: "true"}}, "spec": EVIL}
        answers = set()
        for claim, manifest in forged.items():
            name = f"{child.metadata.labels['tunegate.dev/role']}-{claim}"
            metadata = manifest["metadata"] | {"name": name}
            assert self.user.create_pod(metadata, manifest["spec"]) == ""
            if claim == "relabelled":
                assert self.user.patch_pod(name, {"metadata": relabelled | {"name": name}}) == ""
            answers.add(self.report(pod, self._core.read_namespaced_pod(name, self._team.namespace)))
            self.end(name, CLAIMS.get(claim, claim))
        return answers

    def report(self, pod: Any, sender: Any) -> int:
        """Send the last report of ``pod`` with the token of the pod ``sender``. Returns the status code of
        the answer."""
        genuine = FakePod(self._team.api, self._address, pod)
        token = FakePod(self._team.api, self._address, sender).token(report_audience(genuine.job_uid))
        return genuine.post(_forged_report(genuine), token)

    def end(self, name: str, claim: str) -> None:
        """Let a pod end with a claim, as its node would."""
        status = {"status": ends(claim)}
        self._core.patch_namespaced_pod_status(name, self._team.namespace, status)

    def complete(self, job: str, uid: str) -> None:
        """Let the Job controller count a pod of the user as one of a Job that succeeded."""
        assert self.user.create_pod({"name": "counted", "labels": {FORGED: "true"}}) == ""
        self.end("counted", "baseline")
        counted = {"labels": {"batch.kubernetes.io/controller-uid": uid}}
        assert self.user.patch_pod("counted", {"metadata": counted}) == ""

        def is_complete() -> bool:
            return bool(self._batch.read_namespaced_job(job, self._team.namespace).status.succeeded)

        eventually(is_complete, seconds=30, what="the Job is complete")


def _forged_report(pod: FakePod) -> bytes:
    """Build a report that would be the last one of the pod, with a number that is higher than all others."""
    report = Report(
        job_uid=pod.job_uid,
        role=pod.role,
        stage=pod.labels.get("tunegate.dev/stage"),
        attempt=1,
        sequence=10**9,
        time=datetime.now(UTC),
        outcome=Outcome.FAILED,
    )
    return report.model_dump_json(by_alias=True, exclude_none=True).encode()


def ignored(team: Team) -> list[str]:
    """Return the messages of the events about ignored Jobs and pods."""
    found = client.CoreV1Api(team.api).list_namespaced_event(team.namespace).items
    return [event.message for event in found if event.reason == "ChildIgnored"]


def test_forged_pods_change_nothing_without_policies(server, team, kubelet, tmp_path):
    undisturbed, attack = Team(team.api, f"{team.namespace}-undisturbed"), Attack(team)
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply_all()
        undisturbed.apply_all()
        try:
            for role in (Role.DATA, Role.TRAIN):
                assert attack.forge(attack.pod(role)) == {403}
                kubelet.release(role)
        finally:
            kubelet.release()
        for each in (undisturbed, team):
            each.wait_for("Succeeded", "Failed")
    job = team.job()
    assert job["status"]["phase"] == "Succeeded", job["status"]["message"]
    attacked, expected = masked_status(job), masked_status(undisturbed.job())
    assert attacked == expected, differences(attacked, expected)
    assert IMAGE_ID not in str(job["status"])
    assert FORGED_DIGEST not in str(job["status"]) + str(team.gate()["status"])
    jobs = client.BatchV1Api(team.api).list_namespaced_job(team.namespace).items
    assert FORGED_DIGEST not in str([one.spec.template for one in jobs])
    assert "is not one of its pods" in ignored(team)[0]
    assert kubelet.failures == []


@pytest.mark.parametrize("field", ["image", "ephemeralContainers"])
def test_changed_pod_is_ignored_until_it_is_replaced(server, team, kubelet, tmp_path, field):
    attack = Attack(team)
    kubelet.release(Role.DATA)
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply_all()
        try:
            pod = attack.pod(Role.TRAIN)
            if field == "image":
                image = {"containers": [{"name": "trainer", "image": "evil"}]}
                assert attack.user.patch_pod(pod.metadata.name, {"spec": image}) == ""
            else:
                assert attack.user.debug(pod.metadata.name) == ""
            eventually(lambda: ignored(team), what="the event ChildIgnored")
            assert attack.report(pod, pod) == 403
            client.CoreV1Api(team.api).delete_namespaced_pod(pod.metadata.name, team.namespace)
            attack.end(pod.metadata.name, "memory")
            attack.pod(Role.TRAIN, not_uid=pod.metadata.uid)
        finally:
            kubelet.release()
        team.wait_for("Succeeded", "Failed")
    assert team.phase() == "Succeeded", team.job()["status"]["message"]
    [message] = ignored(team)
    assert f"its {field} differ from the pod template of the Job" in message


def test_job_completed_by_a_foreign_pod_is_not_believed(server, team, kubelet, tmp_path):
    """The genuine pod is deleted by the Job controller, so the training has no last report."""
    attack = Attack(team)
    kubelet.release(Role.DATA)
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply_all()
        try:
            owner = attack.pod(Role.TRAIN).metadata.owner_references[0]
            attack.complete(owner.name, owner.uid)
            eventually(lambda: "last report" in team.job()["status"]["message"], what="the report is awaited")
        finally:
            kubelet.release()
    status = team.job()["status"]
    assert status["phase"] == "Training"
    assert FORGED_DIGEST not in str(status)


def test_edited_plan_holds_the_job(server, team, kubelet, tmp_path):
    attack, core = Attack(team), client.CoreV1Api(team.api)
    kubelet.release(Role.DATA)
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply_all()
        try:
            attack.pod(Role.TRAIN)
            [name] = [one for one in team.children() if "-plan-" in one]
            plan = core.read_namespaced_config_map(name, team.namespace)
            assert attack.user.delete_record(name) == ""
            edited = team.api.sanitize_for_serialization(plan)
            for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
                del edited["metadata"][field]
            edited["metadata"]["ownerReferences"][0].pop("blockOwnerDeletion")
            edited["data"] = {key: text.replace("0", "1") for key, text in edited["data"].items()}
            assert attack.user.create_record(edited) == ""
            eventually(lambda: team.job()["status"]["message"].startswith("held"), what="the job is held")
        finally:
            kubelet.release()
    assert "it does not have the operator's signature" in team.job()["status"]["message"]
    assert "final" not in team.job()["status"]


def test_request_forged_before_the_start_is_not_used(server, team, kubelet, tmp_path):
    """The job waits for the ConfigMap of its golden set meanwhile."""
    attack = Attack(team)
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply(make_config_map("rows", train__jsonl="{}"), make_gate().obj(), make_job().obj())
        eventually(lambda: team.phase() == "Pending", what="the job waits")
        job = team.job()
        owner = owner_reference(job)
        del owner["blockOwnerDeletion"]
        name = request_name("orders", job["metadata"]["uid"])
        labels = {"app.kubernetes.io/managed-by": "tunegate", "tunegate.dev/job": "orders"}
        metadata = {"name": name, "labels": labels, "ownerReferences": [owner]}
        forged = {"metadata": metadata, "data": {"request.json": "{}"}, "immutable": True}
        assert attack.user.create_record(forged) == ""
        team.apply(make_config_map("cases", golden__jsonl=golden_text()))
        eventually(lambda: team.job()["status"]["message"].startswith("held"), what="the job is held")
        assert team.jobs() == []
        assert attack.user.delete_record(name) == ""
        kubelet.release()
        team.wait_for("Succeeded", "Failed")
    assert team.phase() == "Succeeded", team.job()["status"]["message"]
