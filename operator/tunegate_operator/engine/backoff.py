"""Exponential backoff between retries."""

from datetime import timedelta
from typing import TypeVar

Pause = TypeVar("Pause", float, timedelta)


def backoff(first: Pause, longest: Pause, failures: int) -> Pause:
    """Return the pause after this many failures in a row, in the unit of ``first``.

    It doubles with each failure, up to ``longest``.
    """
    # The exponent is bounded so that weeks of failures do not overflow a float.
    factor: int = 2 ** min(max(failures - 1, 0), 32)
    return min(first * factor, longest)
