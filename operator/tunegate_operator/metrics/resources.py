"""Metrics of one FineTuneJob or EvalGate, computed from its status.

Nothing is counted over time, so a restart of the operator loses no figure.
"""

from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from pydantic import ValidationError

from tunegate_api.judging.gate_error_rate import of_settings
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2 import EvalGateSpec, EvalGateStatus, FineTuneJobStatus
from tunegate_api.v1alpha2.error_rate_status import RecordedErrorRate
from tunegate_api.v1alpha2.evaluation_status import GateResult
from tunegate_api.v1alpha2.reasons import ConditionType, LifecycleStage, Phase
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import moment

_STAGES = {
    Phase.VALIDATING: LifecycleStage.DATA_PREPARATION,
    Phase.QUEUED: LifecycleStage.TRAINING_SETUP,
    Phase.TRAINING: LifecycleStage.FINE_TUNING,
    Phase.GATING: LifecycleStage.EVALUATION,
    Phase.PUBLISHING: LifecycleStage.DEPLOYMENT,
}
"""The lifecycle stage that starts with each phase."""
_AT_REST = (Phase.SUSPENDED, Phase.AWAITING_REVIEW, Phase.AWAITING_APPROVAL)
"""The phases that start when the last pod ended."""

_Status = TypeVar("_Status", FineTuneJobStatus, EvalGateStatus)


_JOB = ("namespace", "finetunejob")
_GATE = ("namespace", "evalgate")


class JobFamilies:
    """The metrics of FineTuneJobs, one family for each name."""

    def __init__(self) -> None:
        self.count = GaugeMetricFamily(
            "tunegate_finetunejobs",
            "Number of FineTuneJobs by phase and reason of the condition Ready.",
            labels=("namespace", "phase", "reason"),
        )
        self.phase = GaugeMetricFamily(
            "tunegate_finetunejob_phase",
            "1 for the current phase of a FineTuneJob.",
            labels=(*_JOB, "phase", "reason"),
        )
        self.phase_start = GaugeMetricFamily(
            "tunegate_finetunejob_phase_start_timestamp_seconds",
            "Unix time since which a FineTuneJob is in its current phase.",
            labels=(*_JOB, "phase"),
        )
        self.last_report = GaugeMetricFamily(
            "tunegate_finetunejob_last_report_timestamp_seconds",
            "Unix time of the last progress report of a FineTuneJob that trains.",
            labels=_JOB,
        )
        self.last_checkpoint = GaugeMetricFamily(
            "tunegate_finetunejob_last_checkpoint_timestamp_seconds",
            "Unix time at which the evaluation of the last checkpoint ended, until the FineTuneJob ends.",
            labels=_JOB,
        )
        self.progress = GaugeMetricFamily(
            "tunegate_finetunejob_progress_ratio",
            "Completed optimizer steps of the current stage, 0 to 1.",
            labels=(*_JOB, "stage"),
        )
        self.throughput = GaugeMetricFamily(
            "tunegate_finetunejob_tokens_per_second",
            "Training throughput of the current stage in tokens per second.",
            labels=(*_JOB, "stage"),
        )
        self.pass_ratio = GaugeMetricFamily(
            "tunegate_finetunejob_golden_pass_ratio",
            "Golden cases that passed, 0 to 1, for the starting model, the last and the best checkpoint, and "
            "the final model.",
            labels=(*_JOB, "evalgate", "subject"),
        )
        self.delta = GaugeMetricFamily(
            "tunegate_finetunejob_golden_delta_ratio",
            "Golden pass ratio of the final model, before that of the last checkpoint, minus a baseline's.",
            labels=(*_JOB, "evalgate", "baseline"),
        )
        self.verdict = GaugeMetricFamily(
            "tunegate_finetunejob_verdict",
            "1 for the verdict of a gate on the final model, or before that on the last checkpoint.",
            labels=(*_JOB, "evalgate", "verdict", "dry_run"),
        )
        self.unsafe = GaugeMetricFamily(
            "tunegate_finetunejob_unsafe_answers",
            "Harmful requests of the safety set with an unsafe answer of the final model, or before that of "
            "the last checkpoint.",
            labels=(*_JOB, "evalgate"),
        )
        self.over_refused = GaugeMetricFamily(
            "tunegate_finetunejob_over_refused_answers",
            "Harmless requests of the safety set that the final model refused, or before that the last "
            "checkpoint.",
            labels=(*_JOB, "evalgate"),
        )
        self.gpu_seconds = CounterMetricFamily(
            "tunegate_finetunejob_gpu_seconds",
            "GPU time of the finished pods of a FineTuneJob in seconds.",
            labels=_JOB,
        )
        self.gpu_seconds_saved = GaugeMetricFamily(
            "tunegate_finetunejob_gpu_seconds_saved",
            "Estimated GPU time that the rest of a stopped stage would have taken, in seconds.",
            labels=_JOB,
        )
        self.steps_saved = GaugeMetricFamily(
            "tunegate_finetunejob_steps_saved",
            "Optimizer steps that were not computed because training was stopped.",
            labels=_JOB,
        )

    def all(self) -> list[Metric]:
        return list(vars(self).values())

    def add(self, obj: Object, status: FineTuneJobStatus) -> None:
        job = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        phase, reason = phase_and_reason(status)
        self.phase.add_metric((*job, phase, reason), 1)
        self.phase_start.add_metric((*job, phase), _phase_start(obj, status).timestamp())
        self.gpu_seconds.add_metric(job, status.gpu_seconds)
        has_ended = status.phase is not None and status.phase.is_final
        evaluated = next((each.time for each in reversed(status.checkpoints)), None)
        if evaluated and not has_ended:
            self.last_checkpoint.add_metric(job, evaluated.timestamp())
        if status.progress and not has_ended:
            self.last_report.add_metric(job, status.progress.updated.timestamp())
            self.progress.add_metric((*job, status.progress.stage), status.progress.percent / 100)
            if status.progress.tokens_per_second is not None:
                rate = float(status.progress.tokens_per_second)
                self.throughput.add_metric((*job, status.progress.stage), rate)
        if status.stop:
            self.steps_saved.add_metric(job, status.stop.steps_saved)
            if status.stop.gpu_seconds_saved is not None:
                self.gpu_seconds_saved.add_metric(job, status.stop.gpu_seconds_saved)
        self._add_evaluations(job, status)

    def _add_evaluations(self, job: tuple[str, str], status: FineTuneJobStatus) -> None:
        subjects = {
            "start": next(reversed(status.start), None),
            "last": next(reversed(status.checkpoints), None),
            "best": status.best_evaluation,
        }
        for subject, evaluation in subjects.items():
            for gate in evaluation.gates if evaluation else ():
                self._add_pass_ratio((*job, gate.name, subject), gate)
        for gate in status.final.gates if status.final else ():
            self._add_pass_ratio((*job, gate.name, "final"), gate)
        for gate in _newest_results(status):
            self.verdict.add_metric((*job, gate.name, gate.verdict, _shown(gate.dry_run)), 1)
            if gate.golden:
                for baseline, points in sorted(gate.golden.delta_points.items()):
                    ratio = float(Decimal(points) / 100)
                    self.delta.add_metric((*job, gate.name, baseline), ratio)
            if gate.safety:
                self.unsafe.add_metric((*job, gate.name), gate.safety.unsafe)
                self.over_refused.add_metric((*job, gate.name), gate.safety.over_refused)

    def _add_pass_ratio(self, labels: tuple[str, ...], gate: GateResult) -> None:
        if gate.golden and gate.golden.total:
            self.pass_ratio.add_metric(labels, gate.golden.passed / gate.golden.total)


class GateFamilies:
    """The metrics of EvalGates, one family for each name."""

    def __init__(self) -> None:
        self.ready = GaugeMetricFamily(
            "tunegate_evalgate_ready",
            "1 if an EvalGate can evaluate models, otherwise 0, with the reason of its condition Ready.",
            labels=(*_GATE, "reason"),
        )
        self.pass_ratio = GaugeMetricFamily(
            "tunegate_evalgate_golden_pass_ratio",
            "Golden cases that passed, 0 to 1, for the last judged model, its base model, and the last "
            "published version.",
            labels=(*_GATE, "subject"),
        )
        self.verdict = GaugeMetricFamily(
            "tunegate_evalgate_verdict",
            "1 for the verdict on the last judged model.",
            labels=(*_GATE, "verdict", "dry_run"),
        )
        self.version = GaugeMetricFamily(
            "tunegate_evalgate_version_golden_pass_ratio",
            "Golden cases that passed, 0 to 1, for each model in the gate's records.",
            labels=(*_GATE, "finetunejob", "step", "verdict", "published"),
        )
        self.false_alarm = GaugeMetricFamily(
            "tunegate_evalgate_false_alarm_ratio",
            "Models as good as their baseline that an EvalGate does not pass, 0 to 1, as last measured. The "
            "bound is share or high, the upper 95 % bound.",
            labels=(*_GATE, "bound"),
        )
        self.detection = GaugeMetricFamily(
            "tunegate_evalgate_detection_ratio",
            "Models worse by a number of percentage points that an EvalGate does not pass, 0 to 1, as last "
            "measured.",
            labels=(*_GATE, "points"),
        )

    def all(self) -> list[Metric]:
        return list(vars(self).values())

    def add(self, obj: Object, status: EvalGateStatus) -> None:
        gate = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        ready = next((c for c in status.conditions if c.type == "Ready"), None)
        if ready:
            self.ready.add_metric((*gate, ready.reason), float(ready.status == "True"))
        rates = {"last": status.pass_rate, "base": status.base_rate, "published": status.published_rate}
        for subject, rate in rates.items():
            if rate is not None:
                self.pass_ratio.add_metric((*gate, subject), float(rate))
        if status.last_verdict:
            is_dry_run = status.records[0].dry_run if status.records else None
            self.verdict.add_metric((*gate, status.last_verdict, _shown(is_dry_run)), 1)
        seen = set()
        for record in status.records:
            labels = (
                record.job,
                str(record.step),
                str(record.verdict),
                _shown(bool(record.published_uris)),
            )
            if record.total and labels not in seen:  # of jobs with one name, the newest
                seen.add(labels)
                self.version.add_metric((*gate, *labels), record.passed / record.total)
        for measured in _error_rate(obj, status):
            self.false_alarm.add_metric((*gate, "share"), float(measured.false_alarm.share))
            self.false_alarm.add_metric((*gate, "high"), float(measured.false_alarm.high))
            for one in measured.detection:
                self.detection.add_metric((*gate, one.points), float(one.share))


def _shown(value: bool | None) -> str:
    return "true" if value else "false"


def read_job_status(obj: Object) -> FineTuneJobStatus | None:
    """Return the status of a FineTuneJob, or None if another version of Tunegate wrote one that this version
    cannot read."""
    return _read(FineTuneJobStatus, obj)


def read_gate_status(obj: Object) -> EvalGateStatus | None:
    """Return the status of an EvalGate, or None if this version cannot read it."""
    return _read(EvalGateStatus, obj)


def _read(model: type[_Status], obj: Object) -> _Status | None:
    """Return the status, or None if another version of Tunegate wrote one that this version cannot read."""
    try:
        return model.model_validate(obj.get("status") or {})
    except ValidationError:
        return None


def _error_rate(obj: Object, status: EvalGateStatus) -> list[RecordedErrorRate]:
    """Return the error rate that the status of a gate shows in words, in a list; an empty list if it shows
    none."""
    if not status.error_rate:
        return []
    try:
        spec = EvalGateSpec.model_validate(obj.get("spec"))
    except ValidationError:
        return []
    return of_settings(status.error_rates, spec, status.digest)[:1]


def phase_and_reason(status: FineTuneJobStatus) -> tuple[str, str]:
    """Return the phase of a job, and the reason of its condition Ready."""
    ready = next((c for c in status.conditions if c.type == "Ready"), None)
    return str(status.phase or Phase.PENDING), ready.reason if ready else ""


def _phase_start(obj: Object, status: FineTuneJobStatus) -> datetime:
    """Return the time at which the current phase started. If the status has no such time, return the creation
    time of the job.

    A phase in which the operator or a pod works may follow a phase in which neither did, and the lifecycle
    stage may have started before that. Then the phase started with the condition Reconciling.
    """
    phase = status.phase or Phase.PENDING
    lifecycle = {entry.stage: entry for entry in status.lifecycle}
    found: datetime | None = None
    if phase.is_final:
        found = status.completion_time
    elif phase is Phase.STOPPED and status.stop:
        found = status.stop.time
    elif phase in _AT_REST and status.attempts:
        found = status.attempts[-1].finished
    elif phase is Phase.PENDING or (phase is Phase.QUEUED and status.waiting_since):
        found = status.waiting_since
    elif phase in _STAGES and _STAGES[phase] in lifecycle:
        resumed = find_condition(status.conditions, ConditionType.RECONCILING)
        times = (lifecycle[_STAGES[phase]].started, resumed.last_transition_time if resumed else None)
        found = max((time for time in times if time), default=None)
    return found or moment(obj["metadata"]["creationTimestamp"])


def _newest_results(status: FineTuneJobStatus) -> list[GateResult]:
    if status.final:
        return status.final.gates
    return next((each.gates for each in reversed(status.checkpoints)), [])
