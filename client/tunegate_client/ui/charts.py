"""Lay out the chart of the golden pass rates of judged versions, and spark lines. A template draws them as
inline SVG.

Horizontal positions are percentages of the width and vertical positions are pixels, so that a chart fits a
phone and a wide screen with text of the same size. The report of a job has the charts of its checkpoints.
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
_STEEP = 0.15
"""An increase of the rate from which the curve would cross a label above its start."""


@dataclass(frozen=True)
class GoldenResult:
    """The golden results of a judged version."""

    number: int
    """The place on the horizontal axis."""
    name: str
    passed: int
    total: int
    verdict: str
    base: Fraction | None = None
    """The pass rate of the base model with which this version was compared."""

    @property
    def rate(self) -> Fraction:
        return rate(self.passed, self.total)

    @property
    def words(self) -> str:
        return f"{self.name}: {self.passed}/{self.total} = {percent(self.rate)}, {self.verdict}"


@dataclass(frozen=True)
class Point:
    """A version in the chart."""

    x: float
    y: float
    shape: str
    """The verdict in lower case."""
    note: str
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
class Chart:
    """A chart, ready to be drawn."""

    words: str
    """The content of the chart for people who do not see it."""
    height: int
    levels: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    """Place and text of each label below the chart."""
    curve: tuple[Line, ...]
    base: tuple[Line, ...]
    base_points: tuple[tuple[float, float, str], ...]
    """Place and note of each base model."""
    points: tuple[Point, ...]
    required: float | None
    required_text: str

    @property
    def shapes(self) -> list[str]:
        """The shapes in the chart, for its legend."""
        return list(dict.fromkeys(point.shape for point in self.points))


def rate_chart(versions: Sequence[GoldenResult], required: Fraction | None = None) -> Chart | None:
    """Lay out a chart of ``versions`` in their order. Returns None for fewer than two versions. ``required``
    is the pass rate that the gate requires."""
    if len(versions) < 2:
        return None
    places = _places(versions)
    points = _points(versions, places)
    based = [
        (x, _y(version.base), f"base model: {percent(version.base)}")
        for version, x in zip(versions, places, strict=True)
        if version.base is not None
    ]
    required_text = "" if required is None else f"{float(100 * required):g} %"
    words = [version.words for version in versions]
    return Chart(
        words=". ".join([*words, *([f"Required: {required_text}"] if required_text else [])]),
        height=HEIGHT,
        levels=tuple((_y(Fraction(level, 100)), f"{level} %") for level in _LEVELS),
        ticks=_ticks(versions, places),
        curve=tuple(Line(a.x, a.y, b.x, b.y) for a, b in pairwise(points)),
        base=tuple(Line(a[0], a[1], b[0], b[1]) for a, b in pairwise(based)),
        base_points=tuple(based),
        points=points,
        required=None if required is None else _y(required),
        required_text=required_text,
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


def _places(versions: Sequence[GoldenResult]) -> list[float]:
    first, last = versions[0].number, versions[-1].number
    return [round(100 * (version.number - first) / (last - first), 2) for version in versions]


def _points(versions: Sequence[GoldenResult], places: Sequence[float]) -> tuple[Point, ...]:
    labelled = {0, len(versions) - 1}
    found = []
    for i, (version, x) in enumerate(zip(versions, places, strict=True)):
        dx, dy = _label_offset(versions, i)
        found.append(
            Point(
                x=x,
                y=_y(version.rate),
                shape=version.verdict.lower(),
                note=version.words,
                label=percent(version.rate) if i in labelled else "",
                label_dx=dx,
                label_dy=dy,
                anchor="start" if x < 10 else "end" if x > 90 else "middle",
            )
        )
    return tuple(found)


def _label_offset(versions: Sequence[GoldenResult], index: int) -> tuple[int, int]:
    """Return where the label of a point lies, in pixels from the point, so that the curve does not cross it:
    right of a first point that the curve leaves steeply, below a point that the curve reaches downwards, and
    otherwise above."""
    rates = [version.rate for version in versions]
    if index == 0 and rates[1] - rates[0] > _STEEP:
        return 12, 5
    return (0, 24) if index and rates[index - 1] > rates[index] else (0, -15)


def _ticks(versions: Sequence[GoldenResult], places: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Return the numbers of versions at equal distances in the list, as many as fit."""
    stride = -(-len(versions) // MOST_TICKS)
    ticks = [(x, str(version.number)) for x, version in zip(places, versions, strict=True)]
    return tuple(ticks[::stride])
