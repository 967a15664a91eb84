"""CustomResourceDefinitions with a field that the operator does not know, as in an upgrade or a rollback."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from support.api_server import CRDS, ApiServer
from support.builders import make_job
from support.fake_kubelet import Address, FakeKubelet, FakePod
from support.helm import NAMESPACE
from support.operator_command import SERVICE, operator
from support.team import Team
from support.waiting import eventually
from tunegate_api.contract.process import Outcome, Role
from tunegate_operator.engine.cluster import Object

pytestmark = pytest.mark.cluster
ONE_OF_EACH = ["data", "gate", "publish", "train"]


class PausedTraining(FakeKubelet):
    """A kubelet whose training pods pause until the test lets them end."""

    def __init__(self, api: client.ApiClient) -> None:
        super().__init__(api, Address(api, NAMESPACE, SERVICE))
        self.may_end = threading.Event()

    def run_role(self, pod: FakePod) -> Outcome:
        if pod.role is Role.TRAIN:
            while not (self.may_end.wait(0.1) or self._stop.is_set()):
                pass
        return super().run_role(pod)


@pytest.fixture
def kubelet(api: client.ApiClient) -> PausedTraining:
    return PausedTraining(api)


@contextmanager
def one_more_field(api: client.ApiClient) -> Iterator[None]:
    """Install the FineTuneJob definition of the next release, with the new field ``mixing``, until the
    context ends."""
    crd = yaml.safe_load((CRDS / "tunegate.dev_finetunejobs.yaml").read_text())
    before = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = before["properties"]["spec"]
    spec = spec | {"properties": spec["properties"] | {"mixing": {"type": "string", "maxLength": 64}}}
    serve(api, before | {"properties": before["properties"] | {"spec": spec}})
    try:
        yield
    finally:
        serve(api, before)


def serve(api: client.ApiClient, schema: Object) -> None:
    patch = [{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]
    extensions = client.ApiextensionsV1Api(api)
    extensions.patch_custom_resource_definition("finetunejobs.tunegate.dev", patch)


def mix(team: Team, value: str | None) -> None:
    """Set the new field of the job, or remove it."""

    def is_changed() -> bool:
        team.change(mixing=value)
        return bool(team.job()["spec"].get("mixing") == value)

    eventually(is_changed, what="the definition is served", pause=0.2)


def stalled(team: Team, name: str = "orders") -> Any:
    conditions = team.job(name).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == "Stalled"), None)


def wait_until_held(team: Team) -> None:
    def is_held() -> bool:
        found = stalled(team)
        return found is not None and found["reason"] == "SpecNotUnderstood"

    eventually(is_held, seconds=30, what="the job is held")


def roles(team: Team) -> list[str]:
    return sorted(name.split("-")[1] for name in team.jobs() if name.startswith("orders-"))


def test_job_continues_through_upgrade_and_rollback_of_the_crds(
    server: ApiServer, api: client.ApiClient, team: Team, kubelet: PausedTraining, tmp_path: Path
) -> None:
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        team.apply_all()
        team.wait_for("Training")
        with one_more_field(api):
            other = Team(api, f"{team.namespace}-mixed")
            other.apply_all()
            mix(other, "even")  # then the definition is served
            team.apply(make_job("early").with_spec(mixing="even").obj())
            condition = eventually(lambda: stalled(team, "early"), what="a condition about the field")
        kubelet.may_end.set()
        team.wait_for("Succeeded", "Failed")
    # A watch with the old definition may show the job without the field first.
    assert condition["reason"] in ("InvalidSpec", "SpecNotUnderstood")
    assert "spec.mixing" in condition["message"]
    events = client.CoreV1Api(api).list_namespaced_event(team.namespace).items
    assert "SpecNotUnderstood" not in [e.reason for e in events if e.involved_object.name == "orders"]
    assert team.phase() == "Succeeded"
    assert roles(team) == ONE_OF_EACH


def test_job_is_held_until_newer_release_field_is_removed(
    server: ApiServer, api: client.ApiClient, team: Team, kubelet: PausedTraining, tmp_path: Path
) -> None:
    with operator(server, tmp_path / "operator.log"), kubelet.running(), one_more_field(api):
        team.apply_all()
        team.wait_for("Training")
        mix(team, "even")
        wait_until_held(team)
        children = team.children()
        assert team.phase() == "Training"
        kubelet.may_end.set()  # its reports are not acknowledged yet
        mix(team, None)
        team.wait_for("Succeeded", "Failed")
        assert set(children) <= set(team.children())
    assert kubelet.failures == []
    assert team.phase() == "Succeeded"
    assert roles(team) == ONE_OF_EACH


def test_held_job_continues_when_the_crds_are_rolled_back(
    server: ApiServer, api: client.ApiClient, team: Team, kubelet: PausedTraining, tmp_path: Path
) -> None:
    """The API server then no longer returns the new field, but the resourceVersion of the job does not
    change."""
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        with one_more_field(api):
            team.apply_all()
            team.wait_for("Training")
            mix(team, "even")
            wait_until_held(team)
        eventually(lambda: stalled(team) is None, seconds=60, what="the job goes on")
        kubelet.may_end.set()
        team.wait_for("Succeeded", "Failed")
    assert team.phase() == "Succeeded"
    assert roles(team) == ONE_OF_EACH
