"""The pictures of the dashboards in docs/."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.dashboards import NAMES
from support.prometheus import needs_prometheus

ROOT = Path(__file__).parents[1]
MOST_BYTES = 300 * 1024


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    from tools import dashboard_panels

    return dashboard_panels


def test_rows_of_queries_are_merged_unless_a_label_differs(panels):
    answers = [
        panels.Series("", {"job": "a", "verdict": "Passed"}, [(0, 1.0)], "A"),
        panels.Series("", {"job": "b", "verdict": "Failed"}, [(0, 1.0)], "A"),
        panels.Series("", {"job": "b"}, [(0, 0.8)], "B"),
        panels.Series("", {"job": "c"}, [(0, 0.7)], "B"),
    ]
    organize = {
        "excludeByName": {"Value #A": True},
        "indexByName": {"job": 0, "verdict": 1, "Value #B": 2},
        "renameByName": {"job": "Job", "verdict": "Verdict", "Value #B": "Rate"},
    }
    panel = {
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}],
        "options": {"sortBy": [{"displayName": "Job", "desc": False}]},
    }
    header, rows = panels.table_of(panel, answers)
    assert header == ["Job", "Verdict", "Rate"]
    assert rows == [["a", "Passed", None], ["b", "Failed", 0.8], ["c", None, 0.7]]


@pytest.mark.parametrize(
    ("style", "value", "text"),
    [
        ({"unit": "percentunit"}, 0.94, "94%"),
        ({"unit": "percentunit"}, 0.935, "93.5%"),
        ({"unit": "s"}, 20160.0, "5.6 hours"),
        ({"unit": "s"}, 0.032, "32 ms"),
        ({"unit": "bytes"}, 92.0 * 2**20, "92 MiB"),
        ({"unit": "suffix: points", "decimals": 1}, -8.0, "-8.0 points"),
        ({"unit": "short"}, 4165.0, "4.17 K"),
        ({"mappings": [{"type": "value", "options": {"1": {"text": "leader"}}}]}, 1.0, "leader"),
    ],
)
def test_value_is_shown_with_its_unit(panels, style, value, text):
    assert panels.text_of(style, value) == text


@pytest.mark.slow
@needs_prometheus
def test_pictures_are_drawn_with_the_committed_size(tmp_path):
    script = ROOT / "tools" / "dashboard_pictures.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, stdout=subprocess.DEVNULL)
    for name in NAMES:
        drawn, committed = (folder / f"dashboard-{name}.png" for folder in (tmp_path, ROOT / "docs"))
        with Image.open(drawn) as new, Image.open(committed) as old:
            assert new.size == old.size, "run make dashboard-pictures"
        assert committed.stat().st_size < MOST_BYTES
