"""SIGTERM: when it may end the process at once, and when it has to wait for a training step to be saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The process was asked to stop. What it did so far is saved; another attempt goes on from there.

    Like KeyboardInterrupt it is no ``Exception``: no handler of errors may swallow it.
    """


class Superseded(Interrupted):
    """Another pod took over as the only writer, see ``writer.py``. This one may not write a report either."""


class Interruption:
    """Whether SIGTERM came. It raises :class:`Interrupted` at once, except within :meth:`deferred`."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def install(self) -> None:
        """Handle SIGTERM from now on. Main thread only."""
        signal.signal(signal.SIGTERM, self._handle)

    def request(self) -> None:
        """What SIGTERM does."""
        self.requested = True
        self.check()

    def check(self) -> None:
        """Raise :class:`Interrupted` if SIGTERM came and nothing has to be saved first."""
        if self.requested and not self._deferred:
            raise Interrupted

    def ignore(self) -> None:
        """From now on SIGTERM changes nothing: the process is about to end."""
        self._deferred = True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this block SIGTERM only sets :attr:`requested`: the block saves and ends by itself."""
        yield from self._within(deferred=True)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Within this block, inside a deferred one, everything is saved: SIGTERM ends it at once."""
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
