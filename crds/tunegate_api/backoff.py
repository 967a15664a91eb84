"""Pauses between retries, which grow exponentially."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import TypeVar

Pause = TypeVar("Pause", float, timedelta)


def backoff(first: Pause, longest: Pause, failures: int) -> Pause:
    """Return the pause after so many failures in a row, in the unit of ``first``: doubled from one failure to
    the next, and at most ``longest``."""
    # The exponent is bounded: what fails for weeks must not overflow a float.
    factor: int = 2 ** min(max(failures - 1, 0), 32)
    return min(first * factor, longest)


def backoff_pauses(first: float, longest: float) -> Iterator[float]:
    """Yield the pauses in seconds after the first failure, the second, and so on, without end."""
    return (backoff(first, longest, failures) for failures in count(1))
