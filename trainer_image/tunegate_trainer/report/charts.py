"""Draw charts as inline SVG with real text and the page's colours, without external references."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from tunegate_api.v1alpha2.error_rate_status import DetectionStatus
from tunegate_api.verdict.outcomes import rate
from tunegate_trainer.report.collect import LossPoint
from tunegate_trainer.report.production import ProductionMatch
from tunegate_trainer.report.stages import StageHistory

_WIDTH, _HEIGHT = 403, 259
"""The size of a chart in points. The page stretches charts to the width of their column; this size determines
the ratio, and the size of the text, which is readable on a phone."""
_RIGHT, _TOP, _BOTTOM = 16, 14, 37
"""The space around the axes in points, without a legend."""
_LEGEND_ROW = 18.4
"""The height of a row of a legend in points."""
_LOWEST_AXES = 130
"""The minimum height of the axes in points. A chart with many rows in its legend is higher than others."""
_MAX_POINTS = 400
"""The maximum number of points in a curve. With more optimizer steps, each point is the mean of several
steps."""
_SHORT_LABEL = 30
"""If no label is longer than this number of characters, the labels are placed in two columns."""
_SMOOTHED_FROM = 30
"""If a curve has at least this number of points, a smoothed curve is drawn too."""
# Matplotlib draws these placeholder colours; each is replaced by a CSS variable of the page's colour scheme.
_INK, _GRID, _CRITICAL = "#010101", "#020202", "#030303"
_SERIES = ("#040401", "#040402", "#040403", "#040404")
_VARIABLES = {_INK: "--muted", _GRID: "--line", _CRITICAL: "--bad"} | {
    colour: f"--series-{i}" for i, colour in enumerate(_SERIES, start=1)
}
_MARKERS = ("o", "s", "^", "D")
_STYLES: Any = ("-", (0, (4, 2)))
"""The line styles of training inputs and production inputs."""

_DETECTION = ("share", "low", "high")


@dataclass(frozen=True)
class _RateLine:
    label: str
    steps: list[int]
    rates: list[float]
    dev: bool


def loss_chart(stage: StageHistory) -> Markup | None:
    """Draw the training loss by optimizer step, with the best checkpoint and the stop. Returns None before
    the second step."""
    if len(stage.losses) < 2:
        return None
    points = _thinned(stage.losses)
    steps, losses = [p.step for p in points], [p.loss for p in points]

    def draw(axes: Any) -> None:
        if len(points) >= _SMOOTHED_FROM:
            axes.plot(steps, losses, color=_SERIES[0], alpha=0.35, linewidth=1)
            axes.plot(steps, _smoothed(losses), color=_SERIES[0], linewidth=2.2)
        else:
            axes.plot(steps, losses, color=_SERIES[0], linewidth=2.2)
        axes.set_ylabel("training loss")
        top = sorted(losses)[int(len(losses) * 0.99)]  # a single spike must not flatten the rest
        axes.set_ylim(0, top * 1.15 or 1)
        _mark(axes, stage, at_top=True)

    first, last = stage.losses[0], stage.losses[-1]
    words = (
        f"Training loss from {first.loss:.3g} at step {first.step} to {last.loss:.3g} at step {last.step}. "
        f"{_marks_in_words(stage)}"
    )
    title = f"Training loss, stage {stage.name}"
    return _svg(f"loss-{stage.name}", title, words, draw, right=stage.last_step, label="step")


def rate_chart(stage: StageHistory) -> Markup | None:
    """Draw the pass rate of each golden set and the dev metrics by checkpoint. Returns None before the first
    checkpoint."""
    if len(stage.checkpoints) < 2:
        return None
    lines = _lines(stage)
    columns = 2 if all(len(line.label) <= _SHORT_LABEL for line in lines) else 1

    def draw(axes: Any) -> None:
        for i, line in enumerate(lines):
            axes.plot(
                line.steps,
                line.rates,
                color=_SERIES[i % len(_SERIES)],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=6,
                linewidth=2.2,
                linestyle=(0, (4, 2)) if line.dev else "-",
                label=line.label,
                clip_on=False,
            )
        axes.set_ylim(0, 1.04)
        _mark(axes, stage, at_top=False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _legend(axes, columns)

    words = "; ".join(
        f"{line.label} from {line.rates[0]:.0%} at step {line.steps[0]} to {line.rates[-1]:.0%} "
        f"at step {line.steps[-1]}"
        for line in lines
    )
    title = f"Golden rate and dev metrics by checkpoint, stage {stage.name}"
    words = f"{words}. {_marks_in_words(stage)}"
    rows = -(-len(lines) // columns)
    return _svg(
        f"rates-{stage.name}", title, words, draw, right=stage.last_step, label="step", legend_rows=rows
    )


def length_chart(match: ProductionMatch) -> Markup:
    """Draw the histograms of the lengths of training inputs and production inputs, with their medians."""
    edges = match.bin_edges

    def draw(axes: Any) -> None:
        for side, colour, style in zip(match.sides, _SERIES, _STYLES, strict=False):
            shares = [count / max(1, sum(side.counts)) for count in side.counts]
            label = f"{side.name}, median {side.lengths.median:g}"
            axes.stairs(shares, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(shares, edges, color=colour, linewidth=2.2, linestyle=style, label=label)
            axes.axvline(side.lengths.median, color=colour, linewidth=1.4, linestyle=style)
        axes.set_ylabel("share of inputs")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _legend(axes, columns=1)

    words = "; ".join(
        f"{side.name} have {side.lengths.low:g} tokens at the 5th percentile, {side.lengths.median:g} at the "
        f"50th and {side.lengths.high:g} at the 95th"
        for side in match.sides
    )
    title = "Lengths of training inputs and production inputs"
    label = "tokens of an input"
    return _svg(
        "lengths", title, f"{words}.", draw, right=edges[-1], label=label, legend_rows=len(match.sides)
    )


def detection_chart(gate: str, detection: Sequence[DetectionStatus], limit: float) -> Markup:
    """Draw how often a gate finds a model by how much worse the model is, with 95 % intervals and the limit
    of the gate in percentage points."""
    points = [float(one.points) for one in detection]
    shares, lows, highs = ([float(getattr(one, name)) for one in detection] for name in _DETECTION)

    def draw(axes: Any) -> None:
        axes.fill_between(points, lows, highs, color=_SERIES[0], alpha=0.25, linewidth=0)
        axes.plot(points, shares, color=_SERIES[0], marker="o", markersize=6, linewidth=2.2, clip_on=False)
        axes.axvline(limit, color=_INK, linewidth=1.4, linestyle=(0, (5, 3)))
        axes.set_ylabel("found")
        axes.set_ylim(0, 1.04)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    words = "; ".join(
        f"{share:.0%} of models worse by {size:g} points, 95 % interval {low:.0%} to {high:.0%}"
        for size, share, low, high in zip(points, shares, lows, highs, strict=True)
    )
    title = f"Models that gate {gate} finds, by how much worse they are"
    words = f"{words}. The limit of the gate is {limit:g} points."
    return _svg(f"detection-{gate}", title, words, draw, right=points[-1], label="worse by, points")


def _lines(stage: StageHistory) -> list[_RateLine]:
    """Return a line for each golden set and each dev metric that has cases."""
    found: dict[str, _RateLine] = {}
    for checkpoint in stage.checkpoints:
        golden = [(f"golden {g.name}", g.verdict) for g in checkpoint.gates]
        measured = [(label, rate(v.passed, v.total), v.total, False) for label, v in golden]
        measured += [(f"dev {t.name}", t.value, t.total, True) for t in checkpoint.tasks]
        for label, value, total, dev in measured:
            if total:
                line = found.setdefault(label, _RateLine(label, [], [], dev))
                line.steps.append(checkpoint.step)
                line.rates.append(float(value))
    return list(found.values())


def _legend(axes: Any, columns: int) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.02), ncols=columns, frameon=False, labelcolor=_INK,
        handlelength=2.4, borderpad=0, columnspacing=1.4,
    )  # fmt: skip


def _svg(
    name: str,
    title: str,
    words: str,
    draw: Callable[[Any], None],
    *,
    right: float,
    label: str,
    legend_rows: int = 0,
) -> Markup:
    """Return a chart whose horizontal axis has a ``label`` and ends a little after the value ``right``."""
    # Importing matplotlib takes a second, and only a report with a chart needs it.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 12.5,
        "text.parse_math": False,
    }
    with mpl.rc_context(settings):
        figure = Figure()
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        draw(axes)
        axes.set_xlim(left=0, right=max(right, 1) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_xlabel(label)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(_INK)
        axes.tick_params(colors=_INK, length=0, pad=5)
        axes.xaxis.label.set_color(_INK)
        axes.yaxis.label.set_color(_INK)
        axes.grid(axis="y", color=_GRID, linewidth=1)
        axes.set_axisbelow(True)
        _fit(axes, legend_rows)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return _inline(drawn.getvalue(), name, title, words)


def _fit(axes: Any, legend_rows: int) -> None:
    """Set the size of the figure and the place of the axes in it.

    Matplotlib's own layout takes as long as drawing, because it measures all text several times, and it
    measures another font than that of the page.
    """
    top = 7 + legend_rows * _LEGEND_ROW if legend_rows else _TOP
    height = max(_HEIGHT, top + _LOWEST_AXES + _BOTTOM)
    digits = max(map(len, axes.yaxis.get_major_formatter().format_ticks(axes.get_yticks())))
    left = (28 if axes.get_ylabel() else 12) + 8 * digits
    axes.figure.set_size_inches(_WIDTH / 72, height / 72)
    axes.figure.subplots_adjust(
        left=left / _WIDTH, right=1 - _RIGHT / _WIDTH, bottom=_BOTTOM / height, top=1 - top / height
    )


def _mark(axes: Any, stage: StageHistory, *, at_top: bool) -> None:
    """Draw labelled vertical lines at the best checkpoint, at each checkpoint where a person decided to
    continue, and at the stop."""
    best = stage.stop.best_step if stage.stop else stage.best_step
    words: dict[int, list[str]] = {}
    if best:
        words[best] = ["best"]
    for step in stage.accepted_steps:
        words.setdefault(step, []).append("continued")
    if stage.stop:
        words.setdefault(stage.stop.step, []).append("stopped")
    right = max(stage.last_step, 1)
    for row, (step, labels) in enumerate(sorted(words.items())):
        colour, style = (_CRITICAL, "-") if "stopped" in labels else (_INK, (0, (5, 3)))
        axes.axvline(step, color=colour, linewidth=1.4, linestyle=style, zorder=1)
        inside = step > right * 0.75  # keep labels inside the axes, and neighbours on different heights
        offset = 5 + 16 * (row % 4)
        axes.annotate(
            ", ".join(labels), (step, int(at_top)), xycoords=("data", "axes fraction"),
            xytext=(-4 if inside else 4, -offset if at_top else offset), textcoords="offset points",
            ha="right" if inside else "left", va="top" if at_top else "bottom", color=colour,
        )  # fmt: skip


def _marks_in_words(stage: StageHistory) -> str:
    best = stage.stop.best_step if stage.stop else stage.best_step
    words = [f"Best checkpoint: step {best}." if best else "No best checkpoint."]
    words += [f"Continued by a person after step {step}." for step in stage.accepted_steps]
    words += [f"Stopped at step {stage.stop.step}."] if stage.stop else []
    return " ".join(words)


def _inline(svg: str, name: str, title: str, words: str) -> Markup:
    """Make the drawing part of a page: remove prolog and metadata, prefix ids, replace colours by
    variables."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = (
        re.sub(r'\s(xmlns(:\w+)?|version|width|height)="[^"]*"', "", body[: body.index(">")])
        + body[body.index(">") :]
    )
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)  # the page's own font
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    label = (
        f'<svg role="img" aria-labelledby="{name}-title {name}-words"'
        f"{body[len('<svg') : body.index('>') + 1]}"
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-words">{escape(words)}</desc>'
    )
    return Markup(label + body[body.index(">") + 1 :])  # noqa: S704 - all text in it is escaped


def _thinned(points: Sequence[LossPoint]) -> list[LossPoint]:
    """Return at most ``_MAX_POINTS`` points, each of which is the mean of consecutive steps."""
    size = -(-len(points) // _MAX_POINTS)
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    return [LossPoint(chunk[-1].step, sum(p.loss for p in chunk) / len(chunk)) for chunk in chunks]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return a smoothed curve. Each value is the mean of a window that is centred on it and contains about a
    tenth of all values. A centred window does not lag, unlike a running average."""
    half = max(1, len(values) // 20)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
