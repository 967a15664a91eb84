"""The verdict on an artifact, from case outcomes alone: the arithmetic that goes into evidence and report."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunegate_api.contract import Evaluation, GateRequest, Request, Results, Subject, golden_set, task_set
from tunegate_api.meta import exact
from tunegate_api.verdict import (
    Baseline,
    CaseSet,
    Finding,
    Verdict,
    VerdictState,
    judge_golden,
    judge_task,
    passed_count,
    worst,
)


@dataclass(frozen=True)
class GateJudgement:
    """What one gate says of one set of weights."""

    name: str
    golden_sha256: str
    verdict: Verdict
    baselines: dict[str, int]
    """Golden cases that each baseline passed."""
    skipped: tuple[str, ...]
    """Baselines that do not exist yet."""
    dry_run: bool
    """Recorded, without a say in the verdict."""


@dataclass(frozen=True)
class TaskJudgement:
    """What one task metric says on one held-out split."""

    name: str
    split: str
    minimum: str
    passed: int
    total: int
    base_passed: int | None
    """Rows that the base model passed; None where it was not measured."""
    finding: Finding


@dataclass(frozen=True)
class Judgement:
    """What all gates and task metrics say of one set of weights."""

    gates: tuple[GateJudgement, ...]
    tasks: tuple[TaskJudgement, ...]

    @property
    def findings(self) -> list[tuple[str, Finding]]:
        """All that counts, each with the gate's name or ``taskMetrics``."""
        of_gates = [(g.name, f) for g in self.gates if not g.dry_run for f in g.verdict.findings]
        return of_gates + [("taskMetrics", task.finding) for task in self.tasks]

    @property
    def state(self) -> VerdictState:
        """The worst finding."""
        return worst([finding.state for _, finding in self.findings])

    @property
    def message(self) -> str:
        """The findings that decided, or all of them when everything passed."""
        return "; ".join(f"{name}: {f.message}" for name, f in self.findings if f.state is self.state)


def judge_final(request: Request, results: Results) -> Judgement | None:
    """The verdict on the artifact that would be published; None until it is measured."""
    final = next(iter(results.find(Subject.FINAL)), None)
    if final is None:
        return None
    return Judgement(
        gates=tuple(judge_gate(gate, results, final) for gate in request.final_gates),
        tasks=tuple(judge_tasks(request, results, final, "test")),
    )


def judge_gate(gate: GateRequest, results: Results, evaluation: Evaluation) -> GateJudgement:
    """What ``gate`` says of the evaluated weights, against every baseline that exists."""
    name = golden_set(gate.name)
    cases = results.sets.get(name)
    if cases is None or cases.sha256 != gate.golden_sha256:  # not this gate's set: an empty one is an Error
        cases = CaseSet(sha256=gate.golden_sha256, ids=[])
    baselines: dict[str, Baseline] = {}
    skipped: tuple[str, ...] = ()
    if "BaseModel" in gate.spec.baselines:
        base = base_evaluation(results)
        baselines["BaseModel"] = Baseline(gate.golden_sha256, base.outcomes.get(name) if base else None)
    if "LastPublished" in gate.spec.baselines:
        last = gate.last_published
        if last is None:
            skipped = ("LastPublished",)
        else:
            baselines["LastPublished"] = Baseline(last.golden_sha256, last.outcomes)
    return GateJudgement(
        name=gate.name,
        golden_sha256=gate.golden_sha256,
        verdict=judge_golden(
            cases, evaluation.outcomes.get(name, ""), gate.spec.thresholds.rules(), baselines
        ),
        baselines={k: passed_count(b.outcomes) for k, b in baselines.items() if b.outcomes is not None},
        skipped=skipped,
        dry_run=gate.spec.dry_run,
    )


def judge_tasks(
    request: Request, results: Results, evaluation: Evaluation, split: str
) -> Sequence[TaskJudgement]:
    """What each task metric says on ``split``, dev or test."""
    base = base_evaluation(results)
    judged = []
    for metric in request.spec.task_metrics:
        name = task_set("test" if split == "test" else "dev", metric.name)
        outcomes = evaluation.outcomes.get(name, "")
        base_outcomes = base.outcomes.get(name) if base else None
        judged.append(
            TaskJudgement(
                name=metric.name,
                split=split,
                minimum=metric.min,
                passed=passed_count(outcomes),
                total=len(outcomes),
                base_passed=None if base_outcomes is None else passed_count(base_outcomes),
                finding=judge_task(metric.name, outcomes, exact(metric.min)),
            )
        )
    return judged


def base_evaluation(results: Results) -> Evaluation | None:
    """The base model's: as the gate measured it, or as the first stage's starting model."""
    return next(iter(results.find(Subject.BASE) + results.find(Subject.START)), None)
