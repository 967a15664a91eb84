"""The dashboards and the alerts, with a real Prometheus and a team of jobs in all phases."""

from collections.abc import Iterator

import pytest

from support.api_server import ApiServer
from support.busy_team import BusyKubelet, start_jobs
from support.dashboards import ALERTS, NAMES, Ranges, alert_queries, dashboard_queries, without_data
from support.operator_command import operator
from support.prometheus import Prometheus, needs_prometheus, prometheus
from support.team import Team
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, needs_prometheus]

RANGES = Ranges(range="10m", rate_interval="10s")


@pytest.fixture(scope="module")
def stored(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes an operator with jobs in all phases."""
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        server.client(connection_pool_maxsize=40) as api,
        operator(server, folder / "operator.log") as command,
        prometheus(folder, [command.health_port], ALERTS) as started,
        BusyKubelet(api).running(),
    ):
        start_jobs(Team(api, "busy"))
        eventually(
            lambda: started.query("tunegate_finetunejob_unsafe_answers"), what="the last write is scraped"
        )
        yield started


@pytest.mark.parametrize("name", NAMES)
def test_every_query_of_a_dashboard_returns_data(stored, name):
    assert without_data(stored, dashboard_queries(name, RANGES), seconds=10) == []


def test_every_metric_of_every_alert_returns_data(stored):
    assert without_data(stored, alert_queries(), seconds=10) == []


def test_alerts_about_stopped_jobs_and_bad_gates_fire(stored):
    def firing() -> bool:
        states = stored.alerts()
        assert states["TunegateTrainingStopped"] == states["TunegateGateNotPassed"] == "firing"
        assert states["TunegateGateNotReady"] == "pending"
        return True

    eventually(firing, what="the alerts fire")
