"""Example jobs and gates for the pictures of the dashboards: their status at each time of a day."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tunegate_api.contract.digests import sha256_text
from tunegate_api.meta import Condition
from tunegate_api.v1alpha2 import EvalGateStatus, FineTuneJobStatus
from tunegate_api.v1alpha2.evalgate_status import GateReason, JudgedModel
from tunegate_api.v1alpha2.evaluation_status import (
    CheckpointReference,
    CheckpointStatus,
    FinalStatus,
    GateResult,
    GoldenStatus,
)
from tunegate_api.v1alpha2.finetunejob_status import LifecycleEntry, Progress, Stop
from tunegate_api.v1alpha2.reasons import LifecycleStage, LifecycleState, Phase, Reason
from tunegate_api.verdict.outcomes import VerdictState

START = datetime(2026, 11, 1, 18, tzinfo=UTC)
HOURS = 24
END = START + timedelta(hours=HOURS)
CASES = 200
STEPS = 20
"""Optimizer steps between two checkpoints."""
MIN_PASSED = 180
DIGEST = "d" * 64

Object = dict[str, Any]


@dataclass(frozen=True)
class ExampleJob:
    """A job whose phases, checkpoints and verdict are fixed in advance. Times are hours after ``START``."""

    namespace: str
    name: str
    phases: tuple[tuple[float, Phase, Reason], ...]
    """The time at which each phase starts."""
    passed: tuple[int, ...] = ()
    """How many of the golden cases each planned checkpoint passes; the first number is the starting model."""
    hours: float = 1.0
    """Time between two checkpoints."""
    gpus: int = 1
    speed: float = 0
    """Tokens per second."""
    final: int | None = None
    """How many golden cases the final model passes."""
    published: int | None = None
    """How many golden cases the last published version passed when the job started."""

    def status_at(self, hour: float) -> FineTuneJobStatus | None:
        """Return the status at a time; None before the job's creation."""
        begun = [entry for entry in self.phases if entry[0] <= hour]
        if not begun:
            return None
        since, phase, reason = begun[-1]
        checkpoints = self._checkpoints(hour)
        status = FineTuneJobStatus(
            phase=phase,
            conditions=[_ready("True" if phase is Phase.SUCCEEDED else "False", reason, since)],
            waiting_since=at(since) if phase is Phase.PENDING else None,
            completion_time=at(since) if phase.is_final else None,
            lifecycle=[
                LifecycleEntry(stage=stage, state=LifecycleState.RUNNING, started=at(self._start(of)))
                for of, stage in _STAGES.items()
                if any(entry[1] is of for entry in begun)
            ],
            gpu_seconds=self._gpu_seconds(hour),
        )
        if not checkpoints:
            return status
        evaluated: dict[str, Any] = {
            "start": [self._evaluation(0)],
            "checkpoints": [self._evaluation(n) for n in range(1, len(checkpoints))],
            "progress": self._progress(hour),
        }
        best = max(range(len(checkpoints)), key=checkpoints.__getitem__)
        if checkpoints[best] >= MIN_PASSED:
            evaluated["best_checkpoint"] = CheckpointReference(stage="sft", step=best * STEPS)
        if any(entry[1] is Phase.STOPPED for entry in begun):
            evaluated["stop"] = self._stop(len(checkpoints) - 1)
        if self.final is not None and phase in (Phase.SUCCEEDED, Phase.FAILED):
            gate = self._result(self.final, self.final)
            evaluated["final"] = FinalStatus(
                model_digest=DIGEST, task_verdict=gate.verdict, gates=[gate], verdict=gate.verdict
            )
        return status.model_copy(update=evaluated)

    def _start(self, phase: Phase) -> float:
        return next((hour for hour, entered, _ in self.phases if entered is phase), HOURS)

    def _end_of_training(self) -> float:
        return next((hour for hour, _, _ in self.phases if hour > self._start(Phase.TRAINING)), HOURS)

    def _trained(self, hour: float) -> float:
        return min(hour, self._end_of_training()) - self._start(Phase.TRAINING)

    def _checkpoints(self, hour: float) -> tuple[int, ...]:
        """Return the results of the starting model and of the checkpoints so far; empty before training."""
        trained = self._trained(hour)
        return self.passed[: int(trained / self.hours + 1e-6) + 1] if trained > 0 else ()

    def _gpu_seconds(self, hour: float) -> int:
        done = self._trained(hour) if hour > self._end_of_training() else 0
        return round(done * 3600 * self.gpus)

    def _result(self, passed: int, best: int) -> GateResult:
        baselines = {"BaseModel": self.passed[0], "LastPublished": self.published}
        deltas = {
            name: 100 * (passed - cases) / CASES for name, cases in baselines.items() if cases is not None
        }
        golden = GoldenStatus(
            passed=passed,
            total=CASES,
            rate=_rate(passed),
            best_so_far=_rate(best),
            delta_points={name: f"{points:.1f}" for name, points in deltas.items()},
        )
        verdict = VerdictState.PASSED if passed >= MIN_PASSED else VerdictState.FAILED
        return GateResult(name=gate_of(self.namespace), golden=golden, verdict=verdict)

    def _evaluation(self, number: int) -> CheckpointStatus:
        gate = self._result(self.passed[number], max(self.passed[: number + 1]))
        evaluated = at(self._start(Phase.TRAINING) + number * self.hours)
        return CheckpointStatus(stage="sft", step=number * STEPS, gates=[gate], time=evaluated)

    def _progress(self, hour: float) -> Progress:
        total = (len(self.passed) - 1) * STEPS
        step = min(total, int(self._trained(hour) / self.hours * STEPS))
        noise = random.Random(f"{self.name}{round(hour, 3)}")
        return Progress(
            stage="sft",
            step=step,
            total_steps=total,
            percent=100 * step // total,
            tokens_per_second=f"{self.speed * noise.gauss(1, 0.015):.0f}",
            updated=at(min(hour, self._end_of_training())) - timedelta(seconds=noise.randrange(5, 55)),
        )

    def _stop(self, number: int) -> Stop:
        left = len(self.passed) - 1 - number
        return Stop(
            id="1",
            stage="sft",
            step=number * STEPS,
            gate=gate_of(self.namespace),
            reason=Reason.GOLDEN_REGRESSION,
            message="",
            steps_saved=left * STEPS,
            gpu_seconds_saved=round(left * self.hours * 3600 * self.gpus),
            time=at(self._start(Phase.STOPPED)),
        )


_STAGES = {
    Phase.VALIDATING: LifecycleStage.DATA_PREPARATION,
    Phase.QUEUED: LifecycleStage.TRAINING_SETUP,
    Phase.TRAINING: LifecycleStage.FINE_TUNING,
    Phase.GATING: LifecycleStage.EVALUATION,
}
_GO = Reason.PROGRESSING
JOBS = (
    ExampleJob(
        "support",
        "replies-v6",
        (
            (0.5, Phase.VALIDATING, _GO),
            (0.8, Phase.TRAINING, _GO),
            (7.0, Phase.GATING, _GO),
            (7.4, Phase.SUCCEEDED, Reason.SUCCEEDED),
        ),
        passed=(84, 121, 152, 168, 177, 183, 186, 188, 187),
        hours=0.75,
        gpus=2,
        speed=5200,
        final=187,
        published=178,
    ),
    ExampleJob(
        "support",
        "replies-v7",
        (
            (11.5, Phase.VALIDATING, _GO),
            (11.9, Phase.TRAINING, _GO),
            (18.4, Phase.STOPPED, Reason.GOLDEN_REGRESSION),
        ),
        passed=(84, 133, 164, 179, 188, 190, 189, 175, 171, 171, 171, 171, 171, 171, 171),
        hours=0.8,
        gpus=4,
        speed=9800,
        published=187,
    ),
    ExampleJob(
        "support",
        "tone-dpo",
        ((19.0, Phase.VALIDATING, _GO), (20.1, Phase.QUEUED, Reason.POD_UNSCHEDULABLE)),
    ),
    ExampleJob(
        "legal",
        "clauses-v2",
        (
            (2.0, Phase.VALIDATING, _GO),
            (2.6, Phase.TRAINING, _GO),
            (6.2, Phase.STOPPED, Reason.GOLDEN_REGRESSION),
            (9.0, Phase.FAILED, Reason.DISCARDED),
        ),
        passed=(96, 140, 149, 131, 120, 120, 120, 120, 120),
        hours=0.85,
        gpus=2,
        speed=4100,
        published=171,
    ),
    ExampleJob(
        "legal",
        "clauses-v3",
        (
            (13.0, Phase.VALIDATING, _GO),
            (13.3, Phase.TRAINING, _GO),
        ),
        passed=(96, 128, 150, 163, 170, 176, 181, 184, 186, 188, 189, 189, 190),
        hours=1.25,
        gpus=2,
        speed=4300,
        published=171,
    ),
    ExampleJob(
        "legal",
        "summaries",
        (
            (3.5, Phase.PENDING, Reason.CONFIG_MAP_NOT_FOUND),
            (4.2, Phase.TRAINING, _GO),
            (10.3, Phase.GATING, _GO),
            (10.6, Phase.FAILED, Reason.GATE_FAILED),
        ),
        passed=(70, 118, 139, 151, 160, 163, 165),
        hours=1.0,
        gpus=1,
        speed=2600,
        final=165,
        published=171,
    ),
)
EARLIER = (
    ("support", "replies-v4", 240, 163, False),
    ("support", "replies-v5", 280, 178, True),
    ("legal", "clauses-v1", 200, 171, True),
)
"""Records of the gates before the first example job: namespace, job, step, passed cases, is published."""


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def gate_of(namespace: str) -> str:
    """Return the name of a namespace's only EvalGate."""
    return f"{namespace}-golden"


def _rate(passed: int) -> str:
    return f"{passed * 100 // CASES / 100:.2f}"


def _ready(status: str, reason: str, hour: float) -> Condition:
    return Condition.model_validate(
        {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": at(hour)}
    )


def _record(job: str, step: int, passed: int, published: bool, time: datetime) -> JudgedModel:
    return JudgedModel(
        job=job,
        job_uid=job,
        step=step,
        model_digest=DIGEST,
        golden_sha256=sha256_text("golden"),
        passed=passed,
        total=CASES,
        verdict=VerdictState.PASSED if published else VerdictState.FAILED,
        published_uris=[f"pvc://models/{job}"] if published else [],
        time=time,
    )


def gate_status_at(namespace: str, hour: float) -> EvalGateStatus:
    """Return the status of a namespace's gate, with a record for each model that it has judged."""
    records = [
        _record(job, step, passed, published, START - timedelta(days=3))
        for of, job, step, passed, published in EARLIER
        if of == namespace
    ]
    for job in JOBS:
        ended, phase, _ = job.phases[-1]
        if job.namespace == namespace and job.final is not None and ended <= hour:
            steps = (len(job.passed) - 1) * STEPS
            records.append(_record(job.name, steps, job.final, phase is Phase.SUCCEEDED, at(ended)))
    last = records[-1]
    base = next(job.passed[0] for job in JOBS if job.namespace == namespace and job.passed)
    published = [record for record in records if record.published_uris]
    return EvalGateStatus(
        conditions=[_ready("True", GateReason.GOLDEN_READ, 0)],
        last=f"{last.job}/{last.step}",
        last_verdict=last.verdict,
        pass_rate=_rate(last.passed),
        base_rate=_rate(base),
        published_rate=_rate(published[-1].passed),
        records=records[::-1],
    )


def objects_at(kind: str, hour: float) -> Iterator[Object]:
    """Yield the example objects of a kind at a time."""
    if kind == "EvalGate":
        for namespace in sorted({job.namespace for job in JOBS}):
            status = gate_status_at(namespace, hour)
            yield {
                "metadata": {"namespace": namespace, "name": gate_of(namespace)},
                "status": status.to_wire(),
            }
        return
    for job in JOBS:
        found = job.status_at(hour)
        if found:
            created = f"{at(job.phases[0][0]):%Y-%m-%dT%H:%M:%SZ}"
            metadata = {"namespace": job.namespace, "name": job.name, "creationTimestamp": created}
            yield {"metadata": metadata, "status": found.to_wire()}
