"""Lay out charts of golden pass rates, which a template draws as inline SVG.

Horizontal positions are percentages of the width and vertical positions are pixels, so that a chart fits a
phone and a wide screen with text of the same size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from tunegate_api.verdict.outcomes import rate

HEIGHT = 200
"""Height of the plot in pixels."""
MOST_TICKS = 8
"""The maximum number of labels below a chart that fit on a phone."""
SPARK_WIDTH, SPARK_HEIGHT = 72, 22
_LEVELS = (0, 25, 50, 75, 100)
_SPARK_RANGE = 0.2
"""The smallest difference of rates that fills the height of a spark line, so that noise looks small."""
_LABEL_WIDTH = 16.0
"""The percentage of the width that a label takes on a phone."""
_STEEP = 0.15
"""An increase of the rate from which the curve would cross a label above its start."""
_MIDDLE = 50.0

STOPPED, BEST, CONTINUED = "stopped", "best", "continued"


@dataclass(frozen=True)
class Measured:
    """The golden results of one model."""

    position: float
    """The place on the horizontal axis, such as the optimizer step."""
    tick: str
    """The label below the chart."""
    name: str
    """Which model it is, such as ``step 37``."""
    passed: int
    total: int
    verdict: str = ""
    """The verdict of the gate; empty for a starting model, which no gate judges."""
    marks: tuple[str, ...] = ()
    """Some of STOPPED, BEST and CONTINUED."""
    best_so_far: Fraction | None = None
    """The highest pass rate up to this model. None if unknown."""
    base: Fraction | None = None
    """The pass rate of the base model with which this model was compared."""

    @property
    def rate(self) -> Fraction:
        return rate(self.passed, self.total)

    @property
    def words(self) -> str:
        verdict = f", {self.verdict}" if self.verdict else ""
        return f"{self.name}: {self.passed}/{self.total} = {percent(self.rate)}{verdict}"


@dataclass(frozen=True)
class Point:
    """A model in the chart."""

    x: float
    y: float
    shape: str
    """``start``, or the verdict in lower case."""
    note: str
    best: bool
    label: str
    """The rate, shown beside the point; empty for points that the curve explains."""
    label_dx: int
    label_dy: int
    anchor: str


@dataclass(frozen=True)
class Line:
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line."""

    x: float
    text: str
    kind: str
    anchor: str


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be drawn."""

    key: str
    title: str
    words: str
    """The content of the chart for people who do not see it."""
    axis: str
    height: int
    levels: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    """Place and text of each label below the chart."""
    curve: tuple[Line, ...]
    base: tuple[Line, ...]
    base_points: tuple[tuple[float, float, str], ...]
    """Place and note of each base model."""
    points: tuple[Point, ...]
    marks: tuple[Mark, ...]
    stop_line: tuple[Line, ...]
    required: float | None
    required_text: str
    drop_text: str

    @property
    def shapes(self) -> list[str]:
        """The shapes in the chart, for its legend."""
        return list(dict.fromkeys(point.shape for point in self.points))


def rate_chart(
    key: str,
    title: str,
    models: Sequence[Measured],
    *,
    axis: str,
    end: float = 0,
    required: Fraction | None = None,
    drop_points: Fraction | None = None,
) -> Chart | None:
    """Lay out a chart of ``models`` in their order. Returns None for fewer than two models.

    ``end`` is the end of the horizontal axis, if it lies beyond the last model, such as the last step of the
    stage. ``required`` is the pass rate that the gate requires. ``drop_points`` is how many percentage points
    below the best rate so far stop training.
    """
    if len(models) < 2:
        return None
    places = _places([m.position for m in models], end)
    points = _points(models, places)
    based = [
        (x, _y(m.base), f"base model: {percent(m.base)}")
        for m, x in zip(models, places, strict=True)
        if m.base is not None
    ]
    stop_line = _stop_line(models, places, drop_points) if drop_points is not None else ()
    return Chart(
        key=key,
        title=title,
        words=". ".join(
            [*(m.words + (f" ({', '.join(m.marks)})" if m.marks else "") for m in models)]
            + ([f"Required: {float(100 * required):g} %"] if required is not None else [])
        ),
        axis=axis,
        height=HEIGHT,
        levels=tuple((_y(Fraction(level, 100)), f"{level} %") for level in _LEVELS),
        ticks=_ticks(models, places),
        curve=tuple(Line(a.x, a.y, b.x, b.y) for a, b in pairwise(points)),
        base=tuple(Line(a[0], a[1], b[0], b[1]) for a, b in pairwise(based)),
        base_points=tuple(based),
        points=points,
        marks=_marks(models, places),
        stop_line=stop_line,
        required=None if required is None else _y(required),
        required_text="" if required is None else f"{float(100 * required):g} %",
        drop_text=f"{float(drop_points):g}" if drop_points is not None and stop_line else "",
    )


def spark_line(rates: Sequence[Fraction]) -> str:
    """Return the points of a small curve without axes, for the attribute ``points`` of a polyline. Returns an
    empty text for fewer than two rates."""
    if len(rates) < 2:
        return ""
    values = [float(value) for value in rates]
    middle = (min(values) + max(values)) / 2
    half = max(_SPARK_RANGE, max(values) - min(values)) / 2
    width, height = SPARK_WIDTH - 6, SPARK_HEIGHT - 6
    places = [
        (3 + width * i / (len(values) - 1), 3 + height * (middle + half - value) / (2 * half))
        for i, value in enumerate(values)
    ]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def percent(value: Fraction) -> str:
    """Format a pass rate as a percentage. Like the rates in status, it is truncated, so that 100 % means all
    cases."""
    return f"{int(value * 100)} %"


def _y(value: Fraction) -> float:
    return round(HEIGHT * (1 - float(value)), 1)


def _places(positions: Sequence[float], end: float) -> list[float]:
    first, last = min(positions), max(end, *positions)
    width = (last - first) or 1
    return [round(100 * (position - first) / width, 2) for position in positions]


def _labelled(models: Sequence[Measured], places: Sequence[float]) -> set[int]:
    """Return the indexes of the models whose rates are shown, as far as their labels do not overlap: those
    with marks, the last and the first."""
    marked = [i for i, m in enumerate(models) if m.marks]
    chosen: list[int] = []
    for i in [*marked, len(models) - 1, 0]:
        if all(abs(places[i] - places[other]) >= _LABEL_WIDTH for other in chosen):
            chosen.append(i)
    return set(chosen)


def _points(models: Sequence[Measured], places: Sequence[float]) -> tuple[Point, ...]:
    labelled = _labelled(models, places)
    found = []
    for i, (model, x) in enumerate(zip(models, places, strict=True)):
        dx, dy = _label_offset(models, i)
        found.append(
            Point(
                x=x,
                y=_y(model.rate),
                shape=model.verdict.lower() or "start",
                note=model.words,
                best=BEST in model.marks,
                label=_label(model) if i in labelled else "",
                label_dx=dx,
                label_dy=dy,
                anchor="start" if x < 10 else "end" if x > 90 else "middle",
            )
        )
    return tuple(found)


def _label(model: Measured) -> str:
    return f"{'best ' if BEST in model.marks else ''}{percent(model.rate)}"


def _label_offset(models: Sequence[Measured], index: int) -> tuple[int, int]:
    """Return where the label of a point lies, in pixels from the point, so that the curve does not cross it:
    right of a first point that the curve leaves steeply, below a point that the curve reaches downwards, and
    otherwise above."""
    rates = [model.rate for model in models]
    if index == 0 and rates[1] - rates[0] > _STEEP:
        return 12, 5
    return (0, 24) if index and rates[index - 1] > rates[index] else (0, -15)


def _marks(models: Sequence[Measured], places: Sequence[float]) -> tuple[Mark, ...]:
    found = []
    for model, x in zip(models, places, strict=True):
        kind = STOPPED if STOPPED in model.marks else CONTINUED if CONTINUED in model.marks else ""
        if kind:
            found.append(Mark(x=x, text=kind, kind=kind, anchor="start" if x < _MIDDLE else "end"))
    return tuple(found)


def _stop_line(
    models: Sequence[Measured], places: Sequence[float], drop_points: Fraction
) -> tuple[Line, ...]:
    """Return the level below which each model regresses: it depends on the best model before it."""
    found = []
    for (before, _), (x1, x2) in zip(pairwise(models), pairwise(places), strict=True):
        level = (before.rate if before.best_so_far is None else before.best_so_far) - drop_points / 100
        if level > 0:
            found.append(Line(x1, _y(level), x2, _y(level)))
    return tuple(found)


def _ticks(models: Sequence[Measured], places: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Return the labels of models at equal distances in the list, as many as fit. A label that would touch
    the label before it is left out."""
    stride = -(-len(models) // MOST_TICKS)
    found: list[tuple[float, str]] = []
    for x, model in list(zip(places, models, strict=True))[::stride]:
        if not found or x - found[-1][0] >= 100 / (MOST_TICKS + 2):
            found.append((x, model.tick))
    return tuple(found)
