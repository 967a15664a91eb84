"""Judge a whole job: its artifact, its checkpoints, its stop rules, and what a person may decide."""

from collections.abc import Iterator, Mapping
from typing import Any

from support.judgements import objects
from support.judgements.results import Words, assessment, best, judgement
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results, Subject, golden_set
from tunegate_api.judging.approval import approving_gates, may_override, may_publish
from tunegate_api.judging.judgement import best_checkpoint, judge_checkpoint, judge_final
from tunegate_api.judging.prospects import no_checkpoint_can_pass
from tunegate_api.judging.selection import evaluated_checkpoints, selection_text
from tunegate_api.judging.stages import StageAssessment, assess_stage, referenced_checkpoints
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.verdict.outcomes import VerdictState

Record = Mapping[str, Any]

VERDICT = sha256_text("verdict")
DECISIONS = [
    None,
    *((action, about) for action in ("approve", "override", "reject") for about in (True, False)),
]
"""No decision, and each decision about the verdict or about another one."""


def judged_job(record: Record) -> dict[str, Any]:
    request = objects.request(record)
    results = objects.results(record, request)
    found: dict[str, Any] = {"mayDecide": _may_decide(request)}
    if final := judge_final(request, results):
        words = Words(selection_text(evaluated_checkpoints(request, results), request, final))
        found["final"] = judgement(final) | {"selection": words}
    accepted = record.get("accepted", {})
    stages = [stage.name for stage in request.spec.stages]
    found["stages"] = {name: _stage(request, results, name, accepted.get(name, 0)) for name in stages}
    return found


def _stage(request: Request, results: Results, stage: str, accepted: int) -> dict[str, Any]:
    checkpoints = results.find(Subject.START, stage) + results.find(Subject.CHECKPOINT, stage)
    hopeless = no_checkpoint_can_pass(request, results, stage)
    return {
        "checkpoints": [
            [str(each.subject), each.step, judgement(judge_checkpoint(request, results, each))]
            for each in checkpoints
        ],
        "best": best(best_checkpoint(request, results, stage)),
        "kept": sorted(referenced_checkpoints(request, results, stage, accepted)),
        "canPass": not hopeless,
        "whyNot": Words(hopeless),
        "stop": _stop(assess_stage(request, results, stage, accepted)),
        "stops": [
            _stop(assess_stage(alone, measured, stage, accepted))
            for alone, measured in _single_rules(request, results)
        ],
    }


def _stop(found: StageAssessment | None) -> list[Any] | None:
    return found and [found.source, found.metric, found.safety, found.step, *assessment(found.assessment)]


def _single_rules(request: Request, results: Results) -> Iterator[tuple[Request, Results]]:
    """Yield each stop rule alone: a job of which no other set is measured.."""
    names = sorted(results.sets)
    if sum(_can_stop(name) for name in names) < 2:
        return
    for name in names:
        if _can_stop(name):
            kept = {other: each for other, each in results.sets.items() if other == name}
            yield request, results.model_copy(update={"sets": kept})


def _can_stop(name: str) -> bool:
    return name.startswith((golden_set(""), "safety/", "dev/"))


def _may_decide(request: Request) -> dict[str, Any]:
    """Return the gates that require an approval, for which verdicts an override is possible, and for each
    verdict after which decisions the artifact may be published."""
    return {
        "approving": approving_gates(request),
        "overridable": [str(state) for state in VerdictState if may_override(request, state)],
        "publish": {
            str(state): "".join(
                "y" if may_publish(request, state, VERDICT, _decision(each)) else "n" for each in DECISIONS
            )
            for state in VerdictState
        },
    }


def _decision(decided: Any) -> PersonDecision | None:
    if decided is None:
        return None
    action, is_about_it = decided
    return PersonDecision.model_construct(
        action=action,
        about=VERDICT if is_about_it else sha256_text("other"),
        by="ana",
        reason="",
        time=None,
    )
