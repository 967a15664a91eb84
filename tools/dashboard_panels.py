"""Draw panels of a Grafana dashboard with matplotlib, as Grafana would approximately draw them.

Only what the committed dashboards use is supported: stat, timeseries, table and bargauge panels, the
transformations merge and organize, and overrides by name or regular expression.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

Panel = dict[str, Any]
Style = dict[str, Any]

BACKGROUND, PANEL, BORDER, TEXT, FAINT = "#111217", "#181b1f", "#2c3235", "#ccccdc", "#8e8e9c"
HEADER = "#6e9fff"
COLORS = {
    "text": TEXT,
    "green": "#73bf69",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "dark-orange": "#fa6400",
    "red": "#f2495c",
    "dark-red": "#c4162a",
    "blue": "#5794f2",
    "light-blue": "#8ab8ff",
    "dark-blue": "#1f60c4",
    "purple": "#b877d9",
    "light-purple": "#ca95e5",
}
"""Grafana's named colors."""
PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0")
PAD = 8


@dataclass(frozen=True)
class Series:
    """One series of an answer, with its name in the legend."""

    name: str
    labels: dict[str, str]
    points: list[tuple[float, float]]
    """Time and value, in order."""
    query: str
    """The refId of its query."""

    @property
    def last(self) -> float:
        return self.points[-1][1]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels. The origin is the upper left corner of the picture."""

    x: float
    y: float
    width: float
    height: float


def name_of(legend: str, labels: dict[str, str]) -> str:
    """Return the legend of a series: the format of the query with the values of labels."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend).strip()


def style_of(panel: Panel, name: str) -> Style:
    """Return the settings of a series or column: the panel's defaults with its overrides."""
    style: Style = dict(panel["fieldConfig"]["defaults"])
    for override in panel["fieldConfig"]["overrides"]:
        matcher, wanted = override["matcher"]["id"], override["matcher"]["options"]
        is_match = name == wanted if matcher == "byName" else bool(re.search(wanted.strip("/"), name))
        if is_match:
            style |= {prop["id"]: prop["value"] for prop in override["properties"]}
    return style


def mapped(style: Style, value: object) -> dict[str, Any]:
    """Return the text and color that a value mapping gives to a value."""
    key = f"{value:g}" if isinstance(value, float) else str(value)
    for mapping in style.get("mappings", ()):
        found: dict[str, Any] | None = mapping["options"].get(key)
        if found:
            return found
    return {}


def color_of(style: Style, value: object, index: int = 0) -> str:
    """Return the color of a value: by mapping, fixed, by threshold, or from the palette."""
    name = mapped(style, value).get("color")
    mode = style.get("color", {}).get("mode")
    if not name and mode == "fixed":
        name = style["color"]["fixedColor"]
    if not name and (mode == "thresholds" or "thresholds" in style) and isinstance(value, float):
        reached = [s for s in style["thresholds"]["steps"] if s["value"] is None or value >= s["value"]]
        name = reached[-1]["color"]
    return COLORS.get(name, name) if name else PALETTE[index % len(PALETTE)]


def text_of(style: Style, value: object) -> str:
    """Return a value with its unit."""
    text = mapped(style, value).get("text")
    if text or not isinstance(value, float):
        return str(text or value)
    unit, decimals = style.get("unit", "none"), style.get("decimals")
    if unit == "s":
        return _duration(value)
    if unit == "percentunit":
        return f"{100 * value:.{1 if decimals is None else decimals}f}".removesuffix(".0") + "%"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    if unit == "short" and value >= 1000:
        return f"{value / 1000:.3g} K"
    shown = f"{value:.3g}" if decimals is None else f"{value:,.{decimals}f}"
    known = {"none": "", "short": "", "ops": " ops/s", "reqps": " req/s"}
    return shown + (known[unit] if unit in known else unit.removeprefix("suffix:"))


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "mins"), (1, "s")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"


class Painter:
    """Draws panels on one picture, with pixels as its unit. Lines are drawn from ``start`` to ``end``."""

    def __init__(self, width: float, height: float, start: datetime, end: datetime) -> None:
        self._width, self._height = width, height
        self._times = start, end
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=BACKGROUND)
        self._axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)

    def text(self, x: float, y: float, text: str, *, size: float = 9, color: str = TEXT, **more: Any) -> None:
        self._axes.text(x, y, text, fontsize=size, color=color, va=more.pop("va", "center"), **more)

    def rectangle(self, box: Box, color: str) -> None:
        self._axes.add_patch(Rectangle((box.x, box.y), box.width, box.height, color=color, linewidth=0))

    def panel(self, panel: Panel, box: Box, answers: Sequence[Series]) -> None:
        """Draw the frame of a panel and its content."""
        frame = FancyBboxPatch(
            (box.x, box.y),
            box.width,
            box.height,
            boxstyle="round,pad=0,rounding_size=3",
            facecolor=PANEL,
            edgecolor=BORDER,
        )
        self._axes.add_patch(frame)
        self.text(box.x + PAD, box.y + 16, panel["title"], size=10, weight="bold")
        content = Box(box.x + PAD, box.y + 32, box.width - 2 * PAD, box.height - 32 - PAD)
        draw = {
            "stat": self._stat,
            "timeseries": self._timeseries,
            "table": self._table,
            "bargauge": self._bargauge,
        }
        draw[panel["type"]](panel, content, answers)

    def _stat(self, panel: Panel, box: Box, answers: Sequence[Series]) -> None:
        width = box.width / len(answers)
        has_names = panel["options"]["textMode"] == "value_and_name"
        for index, series in enumerate(answers):
            style = style_of(panel, series.name)
            color, x = color_of(style, series.last, index), box.x + index * width
            is_filled = panel["options"]["colorMode"] == "background"
            if is_filled:
                self.rectangle(Box(x + 2, box.y, width - 4, box.height), color)
            ink = BACKGROUND if is_filled else TEXT
            middle, center = x + width / 2, box.y + box.height / 2
            value = text_of(style, series.last)
            size = min(22, 1.15 * width / max(3, len(value)))
            if has_names:
                small = min(9, 1.25 * width / max(6, len(series.name)))
                self.text(middle, box.y + 16, series.name, size=small, color=ink, ha="center")
                center += 10
            self.text(middle, center, value, size=size, color=ink, ha="center", weight="bold")

    def _timeseries(self, panel: Panel, box: Box, answers: Sequence[Series]) -> None:
        legend = panel["options"]["legend"]
        is_right = legend["placement"] == "right"
        legend_width = 0.4 * box.width if is_right else 0
        legend_height = 0 if is_right else 18 * (len(answers) + 1)
        plot = Box(box.x + 48, box.y + 6, box.width - 56 - legend_width, box.height - 30 - legend_height)
        axes = self.figure.add_axes(
            (
                plot.x / self._width,
                1 - (plot.y + plot.height) / self._height,
                plot.width / self._width,
                plot.height / self._height,
            ),
            facecolor=PANEL,
        )
        _plot(axes, panel, answers)
        _mark_hours(axes, *self._times)
        place = Box(box.x + box.width - legend_width + 8, box.y, legend_width - 8, box.height)
        if not is_right:
            place = Box(box.x, box.y + box.height - legend_height, box.width, legend_height)
        self._legend(panel, place, answers)

    def _legend(self, panel: Panel, box: Box, answers: Sequence[Series]) -> None:
        calculations: dict[str, tuple[str, Callable[[list[float]], float]]] = {
            "lastNotNull": ("Last", lambda values: values[-1]),
            "max": ("Max", max),
            "mean": ("Mean", lambda values: sum(values) / len(values)),
        }
        chosen = [calculations[name] for name in panel["options"]["legend"]["calcs"]]
        wide = 76 if style_of(panel, "")["unit"] not in ("ops", "reqps") else 100
        for column, (title, _) in enumerate(reversed(chosen)):
            self.text(box.x + box.width - wide * column, box.y + 9, title, size=8, color=HEADER, ha="right")
        for index, series in enumerate(answers):
            style, y = style_of(panel, series.name), box.y + 18 * (index + 1) + 9
            self.rectangle(Box(box.x, y - 1.5, 14, 3), color_of(style, None, index))
            self.text(box.x + 20, y, series.name, size=8)
            values = [value for _, value in series.points]
            for column, (_, calculate) in enumerate(reversed(chosen)):
                shown = text_of(style, float(calculate(values)))
                self.text(box.x + box.width - wide * column, y, shown, size=8, ha="right")

    def _table(self, panel: Panel, box: Box, answers: Sequence[Series]) -> None:
        header, rows = table_of(panel, answers)
        styles = [style_of(panel, name) for name in header]
        texts = [[text_of(styles[i], v) if v is not None else "" for i, v in enumerate(row)] for row in rows]
        widths = [
            max(len(text) for text in (*column, name)) + 2
            for name, *column in zip(header, *texts, strict=True)
        ]
        scale = box.width / sum(widths)
        for number, (row, shown) in enumerate(zip([header, *rows], [header, *texts], strict=True)):
            y, x = box.y + 12 + 25 * number, box.x
            if number:
                self.rectangle(Box(box.x, y - 13, box.width, 1), BORDER)
            for style, width, value, text in zip(styles, widths, row, shown, strict=True):
                kind = style.get("custom.cellOptions", {}).get("type")
                color = color_of(style, value) if number and kind == "color-text" else TEXT
                if number and kind == "gauge" and isinstance(value, float):
                    room = width * scale - 58
                    self.rectangle(Box(x, y - 7, room, 14), BORDER)
                    self.rectangle(Box(x, y - 7, room * value / style["max"], 14), color_of(style, value))
                    self.text(x + room + 6, y, text, size=8.5, color=color_of(style, value))
                else:
                    self.text(x, y, text, size=8.5, color=color if number else HEADER)
                x += width * scale

    def _bargauge(self, panel: Panel, box: Box, answers: Sequence[Series]) -> None:
        height = min(30, box.height / len(answers))
        names = 7.0 * max(len(series.name) for series in answers)
        most = panel["fieldConfig"]["defaults"].get("max", max(series.last for series in answers)) or 1
        room = box.width - names - 90
        for index, series in enumerate(answers):
            style, y = style_of(panel, series.name), box.y + index * height
            color = color_of(style, series.last, index)
            self.text(box.x, y + height / 2, series.name, size=8.5)
            self.rectangle(Box(box.x + names, y + 4, room, height - 8), BORDER)
            self.rectangle(Box(box.x + names, y + 4, room * series.last / most, height - 8), color)
            value = text_of(style, series.last)
            self.text(box.x + names + room + 8, y + height / 2, value, size=9, color=color)


def _plot(axes: Axes, panel: Panel, answers: Sequence[Series]) -> None:
    """Draw the lines or the stacked areas of a timeseries panel, with its axes."""
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    is_stacked = custom["stacking"]["mode"] == "normal"
    is_step = custom["lineInterpolation"] == "stepAfter"
    times = sorted({time for series in answers for time, _ in series.points})
    below = [0.0] * len(times)
    for index, series in enumerate(answers):
        style, known = style_of(panel, series.name), dict(series.points)
        color = color_of(style, None, index)
        values = [known.get(time, nan) for time in times]
        if is_stacked:
            above = [low + known.get(time, 0.0) for low, time in zip(below, times, strict=True)]
            axes.fill_between(times, below, above, color=color, alpha=0.45, linewidth=0)
            values = [top if time in known else nan for top, time in zip(above, times, strict=True)]
            below = above
        axes.plot(times, values, color=color, linewidth=1.5, drawstyle="steps-post" if is_step else "default")
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    if "max" in defaults:
        axes.set_ylim(top=defaults["max"] * 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: text_of(defaults | {"decimals": None}, float(value)))
    axes.tick_params(colors=FAINT, labelsize=7.5, length=0)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(color=BORDER, linewidth=0.7)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _mark_hours(axes: Axes, start: datetime, end: datetime) -> None:
    """Label the time axis at six times with equal distances."""
    marks = [start + (end - start) * number / 6 for number in range(7)]
    axes.set_xticks([mark.timestamp() for mark in marks], labels=[f"{mark:%H:%M}" for mark in marks])
    axes.set_xlim(start.timestamp(), end.timestamp())


def table_of(panel: Panel, answers: Sequence[Series]) -> tuple[list[str], list[list[Any]]]:
    """Return the header and the rows of a table panel, after its transformations merge and organize."""
    options = next(t["options"] for t in panel["transformations"] if t["id"] == "organize")
    order: dict[str, int] = options["indexByName"]
    rows = list(_merged(answers))
    columns = sorted(
        {name for row in rows for name in row if not options["excludeByName"].get(name)},
        key=lambda name: order.get(name, len(order)),
    )
    header = [options["renameByName"].get(name, name) for name in columns]
    (sort,) = panel["options"]["sortBy"]
    by = columns[header.index(sort["displayName"])]
    rows.sort(key=lambda row: row[by], reverse=sort["desc"])
    return header, [[row.get(name) for name in columns] for row in rows]


def _merged(answers: Sequence[Series]) -> Iterator[dict[str, Any]]:
    """Yield the rows of all queries. Rows are merged if they have no label with different values."""
    rows: list[dict[str, Any]] = []
    for series in answers:
        new = {**series.labels, f"Value #{series.query}": series.last}
        matching = [row for row in rows if all(row.get(name, value) == value for name, value in new.items())]
        for row in matching:
            row.update(new)
        if not matching:
            rows.append(new)
    yield from rows
