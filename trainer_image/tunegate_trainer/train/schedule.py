"""Which checkpoint comes next, and whether training goes on.

Derived from evaluations alone, so that a resumed run decides as one that was never interrupted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunegate_api.verdict import Assessment, CaseSet, Measured, Rules, StopAction, assess_checkpoint

_SEVERITY = list(StopAction)


@dataclass(frozen=True)
class StopRule:
    """A gate that may stop training."""

    gate: str
    cases: CaseSet
    rules: Rules


@dataclass(frozen=True)
class Decision:
    """What all gates together say after a checkpoint."""

    action: StopAction
    message: str = ""


def decide(
    stop_rules: Sequence[StopRule],
    history: Sequence[tuple[int, Mapping[str, str]]],
    accepted_step: int | None = None,
) -> Decision:
    """What the strictest gate says after the last entry of ``history``.

    ``history`` holds steps with the outcomes of each gate, from the starting model (step 0) on. Where a
    person accepted a checkpoint, what was before it no longer counts.
    """
    counted = [(step, outcomes) for step, outcomes in history if step >= (accepted_step or 0)]
    assessments: list[tuple[StopRule, Assessment]] = [
        (
            rule,
            assess_checkpoint(rule.cases, rule.rules, [Measured(step, o[rule.gate]) for step, o in counted]),
        )
        for rule in stop_rules
        if counted
    ]
    if not assessments:
        return Decision(StopAction.CONTINUE)
    rule, worst = max(assessments, key=lambda pair: _SEVERITY.index(pair[1].action))
    return Decision(worst.action, f"{rule.gate}: {worst.message}")


def next_checkpoint(planned: Sequence[int], last: int, action: StopAction) -> int | None:
    """The step of the checkpoint after ``last``; None after the last one of the plan.

    After a regression it comes early: halfway to the planned one, rounded up.
    """
    following = next((step for step in sorted(planned) if step > last), None)
    if following is None or action is not StopAction.CHECK_EARLY:
        return following
    return last + (following - last + 1) // 2
