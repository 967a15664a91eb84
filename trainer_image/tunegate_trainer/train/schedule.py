"""Choose the next checkpoint."""

from collections.abc import Sequence

from tunegate_api.judging.verdict import StopAction


def next_checkpoint(planned: Sequence[int], last: int, action: StopAction) -> int | None:
    """Return the step of the checkpoint after ``last``; None after the last planned one.

    After a regression it is early: halfway to the next planned step, rounded up.
    """
    following = next((step for step in sorted(planned) if step > last), None)
    if following is None or action is not StopAction.CHECK_EARLY:
        return following
    return last + (following - last + 1) // 2
