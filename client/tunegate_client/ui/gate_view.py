"""Prepare the page of a gate."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from tunegate_api.contract.bar import final_bar
from tunegate_api.judging.gate_error_rate import of_settings
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2 import EvalGateSpec
from tunegate_api.v1alpha2.error_rate_status import RecordedErrorRate
from tunegate_api.v1alpha2.evalgate_status import GateReason, JudgedModel
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_api.verdict.allowed_failures import allowed
from tunegate_api.verdict.outcomes import points_text, rate, rate_text
from tunegate_client.ui.charts import Chart, GoldenResult, rate_chart
from tunegate_client.ui.reader import Gate, Job
from tunegate_client.ui.states import Tone


@dataclass(frozen=True)
class RecordRow:
    """A judged version in the table."""

    number: int
    job: str
    exists: bool
    """Whether the job that trained the version still exists."""
    step: int
    passed: int
    total: int
    rate: str
    base: str
    points: str
    """Difference to the base model in percentage points."""
    verdict: str
    dry_run: bool
    published: tuple[str, ...]
    same_cases: bool
    """Whether the version was judged on the gate's current golden set."""
    time: datetime


@dataclass(frozen=True)
class GateView:
    """The content of a gate's page."""

    tone: Tone
    title: str
    message: str
    spec: EvalGateSpec | None
    """None if the spec cannot be parsed."""
    new_failures: str
    """How many new failures are allowed."""
    chart: Chart | None
    records: tuple[RecordRow, ...]
    error_rates: tuple[RecordedErrorRate, ...]
    """The measured error rates with the current golden set, settings and rules, newest first."""
    jobs: tuple[Job, ...]
    """The jobs whose stages or final models this gate judges."""


def gate_view(gate: Gate, jobs: Sequence[Job]) -> GateView:
    """Prepare the page of ``gate``. ``jobs`` are all jobs of its namespace."""
    spec = _spec(gate)
    records = list(enumerate(reversed(gate.status.records), start=1))
    uids = {job.uid for job in jobs}
    tone, title, message = _state(gate)
    bar = final_bar(spec.golden) if spec else None
    return GateView(
        tone=tone,
        title=title,
        message=message,
        spec=spec,
        new_failures=_new_failures(gate, spec.golden) if spec else "",
        chart=rate_chart(
            [_measured(number, record) for number, record in records if record.total],
            bar.min_pass_rate if bar else None,
        ),
        records=tuple(_row(number, record, gate, uids) for number, record in reversed(records)),
        error_rates=tuple(of_settings(gate.status.error_rates, spec, gate.status.digest) if spec else ()),
        jobs=tuple(job for job in jobs if gate.name in _gates_of(job)),
    )


def _new_failures(gate: Gate, golden: GateSet) -> str:
    cases = gate.status.cases
    if cases and not golden.advisory:
        limit = final_bar(golden).new_failures.most
        more = ", more if some are in one group" if limit is None else ""
        return f"{allowed(limit, cases)} of {cases} cases{more}"
    most = golden.overall.max_new_failures
    return "a number that depends on the number of golden cases" if most is None else str(most)


def _spec(gate: Gate) -> EvalGateSpec | None:
    try:
        return EvalGateSpec.model_validate(gate.obj.get("spec"))
    except ValidationError:
        return None


def _state(gate: Gate) -> tuple[Tone, str, str]:
    """Return the tone, the title and the message of the page's head."""
    if gate.problem:
        return "unsure", "Unreadable status", gate.problem
    ready = find_condition(gate.status.conditions, "Ready")
    if ready is None:
        return "unsure", "Not ready", "The golden set has not been read yet."
    if ready.status == "True" and ready.reason == GateReason.GOLDEN_PINNED:
        return (
            "good",
            "Ready",
            "Pods read the golden set, and check that its digest is the pinned one.",
        )
    if ready.status == "True":
        return "good", "Ready", "The golden set was read, and its digest matches the spec."
    stalled = find_condition(gate.status.conditions, "Stalled")
    return ("bad" if stalled else "unsure"), "Not ready", ready.message


def _measured(number: int, record: JudgedModel) -> GoldenResult:
    published = ", published" if record.published_uris else ""
    return GoldenResult(
        number=number,
        name=f"version {number}, {record.job} step {record.step}{published}",
        passed=record.passed,
        total=record.total,
        verdict=record.verdict,
        base=None if record.base_passed is None else rate(record.base_passed, record.total),
    )


def _row(number: int, record: JudgedModel, gate: Gate, uids: set[str]) -> RecordRow:
    reached = rate(record.passed, record.total)
    base = None if record.base_passed is None else rate(record.base_passed, record.total)
    return RecordRow(
        number=number,
        job=record.job,
        exists=record.job_uid in uids,
        step=record.step,
        passed=record.passed,
        total=record.total,
        rate=rate_text(reached),
        base="" if base is None else rate_text(base),
        points="" if base is None else points_text(100 * (reached - base)),
        verdict=record.verdict,
        dry_run=bool(record.dry_run),
        published=tuple(record.published_uris),
        same_cases=gate.status.digest in (None, record.golden_sha256),
        time=record.time,
    )


def _gates_of(job: Job) -> set[str]:
    """Return the names of the gates in a job's spec. The spec may be invalid."""
    spec = job.obj.get("spec") or {}
    lists = [spec.get("gates"), *(stage.get("gates") for stage in spec.get("stages") or () if stage)]
    return {str(gate.get("name")) for gates in lists for gate in gates or () if isinstance(gate, dict)}
