"""Pauses between retries, which grow exponentially."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import TypeVar

Pause = TypeVar("Pause", float, timedelta)


def backoff(first: Pause, longest: Pause, failures: int) -> Pause:
    """Return the pause after ``failures`` consecutive failures, in the unit of ``first``. The pause is
    ``first`` after one failure, doubles with each further failure, and is at most ``longest``."""
    # The exponent is bounded, so that failures over weeks cannot overflow a float.
    factor: int = 2 ** min(max(failures - 1, 0), 32)
    return min(first * factor, longest)


def backoff_pauses(first: float, longest: float) -> Iterator[float]:
    """Yield the pause in seconds after each consecutive failure, beginning with the first. The iterator never
    ends."""
    return (backoff(first, longest, failures) for failures in count(1))
