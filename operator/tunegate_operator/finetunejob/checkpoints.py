"""Judge the starting models and the checkpoints of a job for its status, without judging unchanged results
again at each decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results, Subject
from tunegate_api.judging.judgement import Judgement, best_judged, judge_checkpoint, judge_checkpoints
from tunegate_api.v1alpha2.evaluation_status import CheckpointReference, CheckpointStatus
from tunegate_api.v1alpha2.finetunejob_status import MAX_CHECKPOINTS
from tunegate_operator.engine.memo import Memo
from tunegate_operator.finetunejob.judge import checkpoint_status
from tunegate_operator.finetunejob.status_size import rates_only, without_cases


@dataclass(frozen=True)
class JudgedCheckpoints:
    """What status shows about the evaluated models of a job."""

    start: Sequence[CheckpointStatus]
    """The starting model of each stage."""
    checkpoints: Sequence[CheckpointStatus]
    omitted: int
    """How many checkpoints are not in ``checkpoints``."""
    best_steps: Mapping[str, int]
    """The step of the best checkpoint of each stage that has one."""
    best: CheckpointReference | None
    """The best checkpoint of the last of these stages."""


_JUDGED: Memo[JudgedCheckpoints] = Memo(256)


def judged_checkpoints(request: Request, results: Results) -> JudgedCheckpoints:
    """Judge all starting models and checkpoints of a job. Judging 20 checkpoints takes 5 ms, and most
    decisions about a job are about other changes."""
    return _JUDGED.get(request.uid, (request, results), lambda: _judge(request, results))


def best_step(request: Request, results: Results, stage: str) -> int | None:
    """Return the optimizer step of the best passing checkpoint of a stage; None if no checkpoint passed."""
    return judged_checkpoints(request, results).best_steps.get(stage)


def _judge(request: Request, results: Results) -> JudgedCheckpoints:
    judged: list[Judgement] = []
    best_steps: dict[str, int] = {}
    best = None
    stages = [stage.name for stage in request.spec.stages]
    for stage in stages:
        of_stage = judge_checkpoints(request, results, stage)
        judged += of_stage
        if candidate := best_judged(of_stage):
            best_steps[stage] = candidate.step
            best = CheckpointReference(stage=stage, step=candidate.step)
    shown = [checkpoint_status(each, results) for each in _bounded(judged, best)]
    starts = [
        checkpoint_status(judge_checkpoint(request, results, e), results)
        for stage in stages
        for e in results.find(Subject.START, stage)
    ]
    return JudgedCheckpoints(
        start=[*(rates_only(s) for s in starts[:-1]), *starts[-1:]],
        checkpoints=[*map(without_cases, shown[:-1]), *shown[-1:]],
        omitted=len(judged) - len(shown),
        best_steps=best_steps,
        best=best,
    )


def _bounded(judged: list[Judgement], best: CheckpointReference | None) -> list[Judgement]:
    """Return the newest checkpoints and the best one. Checkpoints with more gates are larger, so fewer of
    them are returned."""
    gates = max((len(c.gates) for c in judged), default=1)
    room = max(2, MAX_CHECKPOINTS // max(1, gates))
    kept, older = judged[-room:], [c.evaluation for c in judged[:-room]]
    found = [i for i, c in enumerate(older) if best and (c.stage, c.step) == (best.stage, best.step)]
    return [*(judged[i] for i in found), *kept[len(found) :]]
