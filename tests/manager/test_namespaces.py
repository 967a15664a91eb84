"""An operator that watches only one namespace, with the permissions that the chart grants in this case."""

from collections.abc import Iterator

import pytest

from support.api_server import ApiServer, api_server
from support.operator_command import grant_rights, operator
from support.team import Team

pytestmark = pytest.mark.cluster
SERVED = "served"


@pytest.fixture(scope="module")
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
