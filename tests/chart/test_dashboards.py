"""The files of the Grafana dashboards. tests/manager/test_dashboards.py runs their queries."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from support.dashboards import NAMES, SERIES, Panel, dashboard
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.verdict.outcomes import VerdictState

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(params=NAMES)
def panels(request: pytest.FixtureRequest) -> list[Panel]:
    found: list[Panel] = dashboard(request.param)["panels"]
    return found


def panel_of(name: str, title: str) -> Panel:
    (found,) = (panel for panel in dashboard(name)["panels"] if panel["title"] == title)
    return found


def overlap(one: Panel, other: Panel) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    return (
        a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    )


def test_panels_fit_the_grid_and_do_not_overlap(panels):
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= COLUMNS for p in panels)
    assert [(a["title"], b["title"]) for a, b in combinations(panels, 2) if overlap(a, b)] == []
    for values in ([p["id"] for p in panels], [p["title"] for p in panels]):
        assert len(values) == len(set(values))


def test_each_panel_has_description_unit_and_chosen_source(panels):
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == DATASOURCE for source in sources), panel["title"]


def test_panels_read_only_documented_metrics(panels):
    documented = set(re.findall(r"^\| `((?:tunegate|process)_\w+)` \|", PAGE, re.MULTILINE))
    queries = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    read = {found.partition("{")[0] for found in SERIES.findall(queries)}
    assert {re.sub("_(bucket|count)$", "", name) for name in read} - documented == set()


def test_operator_dashboard_shows_every_metric_of_the_operator():
    section = PAGE.partition("\n## Operator\n")[2].partition("\n## ")[0]
    own = set(re.findall(r"^\| `(tunegate_\w+)` \|", section, re.MULTILINE))
    queries = " ".join(t["expr"] for panel in dashboard("operator")["panels"] for t in panel["targets"])
    assert {name for name in own if name not in queries} == set()


def test_every_phase_and_every_verdict_has_a_color():
    overrides = panel_of("fine-tuning", "Jobs by phase")["fieldConfig"]["overrides"]
    assert {o["matcher"]["options"] for o in overrides} == {*Phase, "Unknown"}
    (verdict,) = (
        o
        for o in panel_of("fine-tuning", "Results by gate")["fieldConfig"]["overrides"]
        if o["matcher"]["options"] == "Verdict"
    )
    (mapping,) = next(p["value"] for p in verdict["properties"] if p["id"] == "mappings")
    assert mapping["options"].keys() == set(VerdictState)


def test_each_renamed_column_of_a_table_has_a_query(panels):
    for panel in (p for p in panels if p["type"] == "table"):
        organize = next(t["options"] for t in panel["transformations"] if t["id"] == "organize")
        columns = organize["renameByName"].keys() | organize["excludeByName"].keys()
        values = {name.removeprefix("Value #") for name in columns if name.startswith("Value #")}
        assert values == {target["refId"] for target in panel["targets"]}, panel["title"]
