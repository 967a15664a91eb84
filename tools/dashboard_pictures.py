"""Draw the pictures of the Grafana dashboards in docs/, from example metrics.

A real Prometheus answers the queries of every panel. Needs the Debian package prometheus.
"""

import io
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.Image import Dither, Quantize

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.dashboard_panels import TEXT, Box, Painter, Panel, Series, name_of  # noqa: E402
from tools.example_history import SCRAPE_SECONDS, write_history  # noqa: E402
from tools.example_jobs import END  # noqa: E402

from support.dashboards import NAMES, Ranges, dashboard, expression  # type: ignore[import-not-found] # noqa: E402
from support.prometheus import Prometheus, import_history, prometheus  # type: ignore[import-not-found] # noqa: E402

WIDTH, TITLE, GAP = 1500, 44, 6
COLUMN = (WIDTH - GAP) / 24
ROW = 38
POINTS = 360
"""Points of each line."""
RATE_INTERVAL = f"{4 * SCRAPE_SECONDS}s"


def answers_of(stored: Prometheus, panel: Panel, hours: int) -> list[Series]:
    """Return the series that the queries of a panel return. Raises SystemExit if there are none."""
    end, ranges = END.timestamp(), Ranges(f"{hours}h", RATE_INTERVAL)
    found: list[Series] = []
    for target in panel["targets"]:
        query = expression(target["expr"], ranges)
        if target["instant"]:
            answer = [(s["metric"], [s["value"]]) for s in stored.query(query, end)]
        else:
            start = end - hours * 3600
            ranged = stored.query_range(query, start, end, hours * 3600 // POINTS)
            answer = [(s["metric"], s["values"]) for s in ranged]
        found += [
            Series(
                name=name_of(target.get("legendFormat", ""), metric),
                labels=metric,
                points=[(float(time), float(value)) for time, value in values],
                query=target["refId"],
            )
            for metric, values in answer
        ]
    if not found:
        sys.exit(f"panel {panel['title']!r} has no example data: change tools/example_jobs.py")
    return found


def picture(shown: dict[str, Any], stored: Prometheus) -> bytes:
    """Return the picture of a dashboard as PNG."""
    hours = int(shown["time"]["from"].removeprefix("now-").removesuffix("h"))
    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in shown["panels"])
    painter = Painter(WIDTH, TITLE + ROW * rows + GAP, END - timedelta(hours=hours), END)
    painter.text(12, TITLE / 2 + 2, shown["title"], size=13, weight="bold")
    painter.text(
        WIDTH - 12, TITLE / 2 + 2, f"example data, last {hours} hours", size=9, color=TEXT, ha="right"
    )
    for panel in shown["panels"]:
        grid = panel["gridPos"]
        box = Box(
            GAP + grid["x"] * COLUMN,
            TITLE + grid["y"] * ROW,
            grid["w"] * COLUMN - GAP,
            grid["h"] * ROW - GAP,
        )
        painter.panel(panel, box, answers_of(stored, panel, hours))
    drawn, reduced = io.BytesIO(), io.BytesIO()
    painter.figure.savefig(drawn, format="png")
    few_colors = Image.open(drawn).convert("RGB").quantize(method=Quantize.MAXCOVERAGE, dither=Dither.NONE)
    few_colors.save(reduced, format="png", optimize=True)
    return reduced.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Write one picture for each dashboard into a folder, by default docs/."""
    folder = Path(arguments[0]) if arguments else ROOT / "docs"
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        write_history(scratch / "history.txt")
        import_history(scratch, scratch / "history.txt")
        with prometheus(scratch) as stored:
            for name in NAMES:
                path = folder / f"dashboard-{name}.png"
                path.write_bytes(picture(dashboard(name), stored))
                print(f"wrote {path} ({path.stat().st_size // 1024} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
