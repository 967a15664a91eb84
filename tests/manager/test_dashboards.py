"""The dashboards and the alerts, with a real Prometheus and a team of jobs in all phases."""

from collections.abc import Iterator

import pytest
import yaml

from support.api_server import ApiServer
from support.busy_team import BusyKubelet, start_jobs
from support.dashboards import NAMES, SERIES, Ranges, dashboard, expression, variable_query
from support.helm import CHART
from support.operator_command import operator
from support.prometheus import Prometheus, needs_prometheus, prometheus
from support.team import Team
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, needs_prometheus]

ALERTS = CHART / "monitoring" / "alerts.yaml"
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


def without_data(stored: Prometheus, queries: dict[str, str]) -> list[str]:
    """Return the names of the queries that return nothing, after scrapes had time to follow each other."""
    missing = dict(queries)

    def all_found() -> bool:
        for name, query in list(missing.items()):
            if stored.query(query):
                del missing[name]
        return not missing

    try:
        eventually(all_found, seconds=10, pause=1)
    except AssertionError:
        return sorted(missing)
    return []


@pytest.mark.parametrize("name", NAMES)
def test_every_query_of_a_dashboard_returns_data(stored, name):
    shown = dashboard(name)
    queries = {
        f"{panel['title']}, query {target['refId']}": expression(target["expr"], RANGES)
        for panel in shown["panels"]
        for target in panel["targets"]
    }
    variables = [v for v in shown["templating"]["list"] if v["type"] == "query"]
    queries |= {f"variable {v['name']}": variable_query(v, RANGES) for v in variables}
    assert without_data(stored, queries) == []


def test_every_metric_of_every_alert_returns_data(stored):
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    queries = {f"{rule['alert']}: {found}": found for rule in rules for found in SERIES.findall(rule["expr"])}
    assert len({name.partition(":")[0] for name in queries}) == len(rules)
    assert without_data(stored, queries) == []


def test_alerts_about_stopped_jobs_and_bad_gates_fire(stored):
    def firing() -> bool:
        states = stored.alerts()
        assert states["TunegateTrainingStopped"] == states["TunegateGateNotPassed"] == "firing"
        assert states["TunegateGateNotReady"] == "pending"
        return True

    eventually(firing, what="the alerts fire")
