"""An operator that watches only one namespace, with the permissions that the chart grants in this case."""

from collections.abc import Iterator

import pytest
from kubernetes import client

from support.api_server import OPERATOR, ApiServer, api_server
from support.builders import golden_text, make_config_map, make_gate, make_job
from support.impersonation import acting_as
from support.operator_command import grant_rights, operator
from support.refusals import refusal
from support.team import GROUP, Team
from support.waiting import eventually
from tunegate_operator.names import FILES_FINALIZER

pytestmark = pytest.mark.cluster
SERVED = "served"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api-server")) as server:
        yield server


def test_only_the_job_in_the_watched_namespace_is_run(server, api, kubelet, tmp_path):
    served, other = Team(api, SERVED), Team(api, "other")
    grant_rights(api, f"watchNamespaces={{{SERVED}}}")
    log = tmp_path / "operator.log"
    with operator(server, log, TUNEGATE_WATCH_NAMESPACES=SERVED), kubelet.running():
        other.apply_all()
        served.apply_all()
        served.wait_for("Succeeded", "Failed")
    assert kubelet.failures == []
    assert served.phase() == "Succeeded", served.job()["status"]["message"]
    assert "status" not in other.job()
    assert "forbidden" not in log.read_text().lower()


def test_watched_namespace_with_finalizers_can_be_deleted(server, api, kubelet, tmp_path):
    """The namespace controller deletes the operator's Role with the jobs, which wait for the operator."""
    served, core = Team(api, SERVED), client.CoreV1Api(api)
    grant_rights(api, f"watchNamespaces={{{SERVED}}}")
    rows = make_config_map("rows", train__jsonl="{}")
    cases = make_config_map("cases", golden__jsonl=golden_text())
    job = make_job().with_spec(storage={"persistentVolumeClaim": "tuning", "onDelete": "Delete"})
    with (
        operator(server, tmp_path / "operator.log", TUNEGATE_WATCH_NAMESPACES=SERVED),
        kubelet.running(),
    ):
        served.apply(rows, cases, make_gate().obj(), job.obj())
        served.wait_for("Succeeded", "Failed")
        assert served.job()["metadata"]["finalizers"] == [FILES_FINALIZER]
        core.delete_namespace(SERVED)
        eventually(
            lambda: SERVED not in [found.metadata.name for found in core.list_namespace().items],
            seconds=60,
            what="the namespace is deleted",
            pause=0.5,
        )


def test_operator_cannot_change_jobs_in_other_namespaces(api):
    served, other = Team(api, SERVED), Team(api, "other")
    grant_rights(api, f"watchNamespaces={{{SERVED}}}")
    custom = client.CustomObjectsApi(acting_as(api, OPERATOR))

    def patch(team: Team) -> str:
        body = {"metadata": {"finalizers": [FILES_FINALIZER]}}
        path = (*GROUP, team.namespace, "finetunejobs", "orders", body)
        return refusal(lambda: custom.patch_namespaced_custom_object(*path))

    for team in (served, other):
        team.apply(
            make_job().with_spec(storage={"persistentVolumeClaim": "tuning", "onDelete": "Delete"}).obj()
        )
    eventually(
        lambda: "only in the namespaces that it serves" in patch(other),
        what="the policy refuses it",
        pause=0.2,
    )
    assert patch(served) == ""
