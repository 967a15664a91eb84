"""Read the Grafana dashboards and the alerts of the chart, and look for data of their queries."""

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from support.helm import CHART
from support.prometheus import Prometheus
from support.waiting import eventually

ALERTS = CHART / "monitoring" / "alerts.yaml"
FOLDER = CHART / "monitoring" / "dashboards"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
SERIES = re.compile(r"\b(?:tunegate|process)_\w+(?:\{[^}]*\})?")
"""A metric in an expression, with its label matchers."""

Panel = dict[str, Any]


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard by the name of its file."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


@dataclass(frozen=True)
class Ranges:
    """The durations that Grafana inserts into queries, in the syntax of Prometheus."""

    range: str
    """The time range of the dashboard."""
    rate_interval: str
    """The window of rates, at least four scrape intervals."""


def expression(query: str, ranges: Ranges) -> str:
    """Return a query as Grafana sends it if every variable is "All"."""
    inserted = {"__range": ranges.range, "__rate_interval": ranges.rate_interval}
    return re.sub(r"\$(\w+)", lambda found: inserted.get(found[1], ".*"), query)


def variable_query(variable: dict[str, Any], ranges: Ranges) -> str:
    """Return an expression whose series are the values of a variable."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found, f"variable {variable['name']} is no label_values(…)"
    return f"group by ({found[2]}) ({expression(found[1], ranges)})"


def dashboard_queries(name: str, ranges: Ranges) -> dict[str, str]:
    """Return the queries of all panels and variables of a dashboard, by a name for messages."""
    shown = dashboard(name)
    queries = {
        f"{panel['title']}, query {target['refId']}": expression(target["expr"], ranges)
        for panel in shown["panels"]
        for target in panel["targets"]
    }
    variables = [v for v in shown["templating"]["list"] if v["type"] == "query"]
    return queries | {f"variable {v['name']}": variable_query(v, ranges) for v in variables}


def alert_queries() -> dict[str, str]:
    """Return each metric with its label matchers in the alerts, by a name for messages."""
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    queries = {f"{rule['alert']}: {found}": found for rule in rules for found in SERIES.findall(rule["expr"])}
    assert len({name.partition(":")[0] for name in queries}) == len(rules)
    return queries


def without_data(stored: Prometheus, queries: dict[str, str], *, seconds: float) -> list[str]:
    """Return the names of the queries that return nothing at any time within ``seconds``."""
    missing = dict(queries)

    def all_found() -> bool:
        for name, query in list(missing.items()):
            if stored.query(query):
                del missing[name]
        return not missing

    try:
        eventually(all_found, seconds=seconds, pause=1)
    except AssertionError:
        return sorted(missing)
    return []
