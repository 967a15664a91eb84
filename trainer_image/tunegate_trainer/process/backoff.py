"""Pauses between retries."""

from collections.abc import Iterator


def backoff(first: float, longest: float) -> Iterator[float]:
    """Yield pauses in seconds without end, doubling from ``first`` to ``longest``."""
    pause = first
    while True:
        yield pause
        pause = min(2 * pause, longest)
