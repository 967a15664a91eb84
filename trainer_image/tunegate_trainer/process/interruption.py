"""Handle SIGTERM: end the process at once. During training, first complete the current optimizer step and
save a checkpoint."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The process received SIGTERM and ends. The next attempt resumes from the last checkpoint.

    Like KeyboardInterrupt it is not an ``Exception``, so that no error handler catches it.
    """


class Superseded(Interrupted):
    """Another pod took over as the writer, see ``epoch.py``. This process must not write a report either."""


class Interruption:
    """Handles SIGTERM and remembers that it was received. The signal raises :class:`Interrupted` at once,
    except within :meth:`deferred`."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def install(self) -> None:
        """Install the SIGTERM handler. Main thread only."""
        signal.signal(signal.SIGTERM, self._handle)

    def request(self) -> None:
        """Request the interruption, as SIGTERM does."""
        self.requested = True
        self.check()

    def check(self) -> None:
        """Raise :class:`Interrupted` if SIGTERM was received, unless the caller is within
        :meth:`deferred`."""
        if self.requested and not self._deferred:
            raise Interrupted

    def ignore(self) -> None:
        """Ignore SIGTERM from now on, because the process is about to end."""
        self._deferred = True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this block, SIGTERM only sets :attr:`requested`. The block must check this attribute, save
        its progress and end."""
        yield from self._within(deferred=True)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Within this block, SIGTERM ends the process at once, even inside of :meth:`deferred`. Use it where
        everything is already saved."""
        yield from self._within(deferred=False)

    def _within(self, *, deferred: bool) -> Iterator[None]:
        before, self._deferred = self._deferred, deferred
        try:
            self.check()
            yield
        finally:
            self._deferred = before

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's signature
        self.request()
