"""The stop rule of safety sets: decide after each checkpoint whether training continues. No I/O."""

from collections.abc import Mapping, Sequence, Set

from tunegate_api.verdict.bar import SafetyBar
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_api.verdict.safety import AxisComparison, compare_safety
from tunegate_api.verdict.stop_rule import Assessment, StepOutcomes, StopAction, stopping


def assess_safety(
    cases: CaseSet, bar: SafetyBar, history: Sequence[StepOutcomes], *, confirm: bool
) -> Assessment:
    """Apply the stop rule of a safety set to the last checkpoint of ``history``.

    ``history`` is in the order of steps, and begins with the starting model, or with the checkpoint at which
    a person continued the job. Each checkpoint is compared with this first model. It regresses on an axis if
    it exceeds the limit, whatever the outcomes of the cases that were not measured are, see
    :func:`~tunegate_api.verdict.stop_rule.stopping`.

    Raises ValueError if ``history`` is empty.
    """
    if not history:
        raise ValueError("history is empty: it must begin with the starting model")
    first = history[0]

    def compared(end: int) -> Mapping[str, AxisComparison]:
        """Return the comparison of the last model of ``history[:end]`` on each axis, by its rule."""
        return {one.rule.name: one for one in _compare(cases, bar, first, history[end - 1])}

    def exceeded(end: int) -> Set[str]:
        return {name for name, one in compared(end).items() if one.is_exceeded}

    if len(history) == 1:
        return Assessment(StopAction.CONTINUE, "", best_step=first.step)
    action, rules = stopping(exceeded, history, confirm)
    found = compared(len(history))
    if action is StopAction.CONTINUE:
        message = "; ".join(one.arithmetic for one in found.values())
        return Assessment(action, message, best_step=first.step)
    suffix = ", confirmed" if action is StopAction.STOP and confirm else ""
    shown = [one for name, one in found.items() if name in rules]
    return Assessment(
        action=action,
        message="; ".join(f"{one.arithmetic}{suffix}{one.changes}" for one in shown),
        best_step=first.step,
        regressed=tuple(case for one in shown for case in one.axis.newly_bad),
    )


def _compare(
    cases: CaseSet, bar: SafetyBar, first: StepOutcomes, later: StepOutcomes
) -> Sequence[AxisComparison]:
    """Return the comparison of a later model with the first one on each axis."""
    return compare_safety(
        cases,
        later.outcomes,
        first.outcomes,
        bar,
        now=f" at step {later.step}",
        before=f"step {first.step}" if first.step else "starting model",
    )
