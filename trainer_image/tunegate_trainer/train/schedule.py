"""Choose the step at which the next checkpoint is saved and evaluated."""

from collections.abc import Sequence

from tunegate_api.verdict.stop_rule import StopAction


def next_checkpoint(planned: Sequence[int], last: int, action: StopAction) -> int | None:
    """Return the step of the next checkpoint after ``last``. Returns None if no planned checkpoint is left.

    If ``action`` is CheckEarly, after a regression, the next checkpoint is halfway to the next planned one,
    rounded up.
    """
    following = next((step for step in sorted(planned) if step > last), None)
    if following is None or action is not StopAction.CHECK_EARLY:
        return following
    return last + (following - last + 1) // 2
