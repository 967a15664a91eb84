"""Limit the time that a scorer takes."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = {signal.ITIMER_VIRTUAL: signal.SIGVTALRM, signal.ITIMER_REAL: signal.SIGALRM}
"""The signal of each timer."""


@contextmanager
def time_limit(
    seconds: float, error: BaseException, timer: int = signal.ITIMER_REAL, repeat: float = 0
) -> Iterator[None]:
    """Raise ``error`` in this block after ``seconds``: of elapsed time, or of CPU time with the timer
    ``ITIMER_VIRTUAL``. If the block catches it, raise it every ``repeat`` seconds.

    The limit has an effect only in the main thread, because other threads receive no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise error

    handler = signal.signal(_SIGNALS[timer], stop)
    before = signal.setitimer(timer, seconds, repeat)
    try:
        yield
    finally:
        signal.setitimer(timer, *before)
        signal.signal(_SIGNALS[timer], handler)
