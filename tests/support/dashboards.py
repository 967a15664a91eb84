"""Read the Grafana dashboards of the chart."""

import json
import re
from dataclasses import dataclass
from typing import Any

from support.helm import CHART

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
