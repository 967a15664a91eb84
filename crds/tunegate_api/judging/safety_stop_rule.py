"""The stop rule of safety sets: decide after each checkpoint whether training continues. No I/O."""

from collections.abc import Sequence

from tunegate_api.judging.outcomes import CaseSet
from tunegate_api.judging.safety import AxisComparison, SafetyLimits, compare_safety
from tunegate_api.judging.stop_rule import Assessment, StepOutcomes, StopAction


def assess_safety(
    cases: CaseSet, limits: SafetyLimits, history: Sequence[StepOutcomes], *, confirm: bool
) -> Assessment:
    """Apply the stop rule of a safety set to the last checkpoint of ``history``.

    ``history`` is in the order of steps, and begins with the starting model, or with the checkpoint at which
    a person continued the job. Each checkpoint is compared with this first model. It regresses on an axis if
    it exceeds the limit, whatever the outcomes of the cases that were not measured are. Then training stops
    at once if ``confirm`` is False. Otherwise the next checkpoint is evaluated early, and training stops if
    it regresses on the same axis.

    Raises ValueError if ``history`` is empty.
    """
    if not history:
        raise ValueError("history is empty: it must begin with the starting model")
    first, current = history[0], history[-1]
    found = _compare(cases, limits, first, current) if len(history) > 1 else ()
    regressed = [one for one in found if one.is_exceeded]
    if not regressed:
        message = "; ".join(one.arithmetic for one in found)
        return Assessment(StopAction.CONTINUE, message, best_step=first.step)
    stopping, suffix = regressed, ""
    if confirm:
        earlier = _compare(cases, limits, first, history[-2])
        before = {one.rule for one in earlier if one.is_exceeded}
        stopping, suffix = [one for one in regressed if one.rule in before], ", confirmed"
    shown = stopping or regressed
    return Assessment(
        action=StopAction.STOP if stopping else StopAction.CHECK_EARLY,
        message="; ".join(f"{one.arithmetic}{suffix if stopping else ''}{one.changes}" for one in shown),
        best_step=first.step,
        regressed=tuple(case for one in shown for case in one.axis.newly_bad),
    )


def _compare(
    cases: CaseSet, limits: SafetyLimits, first: StepOutcomes, later: StepOutcomes
) -> Sequence[AxisComparison]:
    """Return the comparison of a later model with the first one on each axis."""
    return compare_safety(
        cases,
        later.outcomes,
        first.outcomes,
        limits,
        now=f" at step {later.step}",
        before=f"step {first.step}" if first.step else "starting model",
    )
