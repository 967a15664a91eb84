"""The section about the error rate of each gate that the job measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunegate_api.duration import duration_text
from tunegate_api.judging.gate_error_rate import error_rate_text
from tunegate_api.judging.judgement import Judgement
from tunegate_api.meta import exact, summarize
from tunegate_api.v1alpha2.error_rate_status import MAX_FLAKY_CASES, ErrorRate
from tunegate_trainer.report.charts import detection_chart
from tunegate_trainer.report.collect import Collected


@dataclass(frozen=True)
class DetectionRow:
    """How often a model that is worse by ``points`` percentage points is found."""

    points: str
    share: str
    interval: str
    is_limit: bool
    """Whether a drop of this size is the smallest that the gate does not allow."""


@dataclass(frozen=True)
class GateErrorRate:
    """The error rate of one gate."""

    gate: str
    text: str
    rows: tuple[DetectionRow, ...]
    chart: Markup | None
    flaky: str
    """The cases whose outcome changed, in words. Empty if there are none."""
    cost: str


def error_rates_of(job: Collected, judgement: Judgement | None) -> Sequence[GateErrorRate]:
    """Return the error rate of each gate that the job measured."""
    gates = judgement.gates if judgement else ()
    return [
        _shown(job, gate.name, gate.error_rate.error_rate)
        for gate in gates
        if gate.error_rate and gate.error_rate.error_rate
    ]


def _shown(job: Collected, gate: str, rate: ErrorRate) -> GateErrorRate:
    limit = job.request.gate(gate).bar.drop.limit
    rows = [
        DetectionRow(
            points=one.points,
            share=_percent(one.share),
            interval=f"{_percent(one.low)} to {_percent(one.high)}",
            is_limit=exact(one.points) == limit,
        )
        for one in rate.detection
    ]
    flaky = summarize(rate.flaky_cases, MAX_FLAKY_CASES, total=rate.flaky) if rate.flaky else ""
    return GateErrorRate(
        gate=gate,
        text=error_rate_text(rate, limit),
        rows=tuple(rows),
        chart=detection_chart(gate, rate.detection, float(limit)) if len(rate.detection) > 1 else None,
        flaky=flaky,
        cost=f"{rate.evaluations} evaluations in {duration_text(rate.seconds)}",
    )


def _percent(share: str) -> str:
    return f"{float(100 * exact(share)):.1f}"
