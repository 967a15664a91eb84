"""Ask a server many questions: a few requests at a time, with retries, limits and a deadline."""

import asyncio
import logging
import time
from asyncio import FIRST_EXCEPTION
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol

from tunegate_api.backoff import backoff_pauses
from tunegate_api.duration import duration_text
from tunegate_trainer.graders.server.chat_server import CHAT, ChatServer
from tunegate_trainer.graders.server.faults import MAX_RETRIES, Fault, FaultError
from tunegate_trainer.graders.server.outages import Outages
from tunegate_trainer.process.errors import UnreachableError, UserError
from tunegate_trainer.process.interruption import Interrupted, Interruption

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""How many requests run at the same time."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds to wait before the first retry of a question after an outage, and the maximum. The pause doubles
with each retry, and is at least as long as the server asks for."""
MAX_UNANSWERED = 5
"""How many questions in a row may have no answer because of faults of the server. After that, it counts as
down."""
MAX_REFUSED = 3
"""How many questions the server may refuse before it gave any answer. After that, it counts as unable to
answer."""
LOG_SECONDS = 15.0
"""Pause between two lines of the log about progress."""
_LOOK_SECONDS = 0.2
"""Pause between two looks at the deadline and at SIGTERM."""


class Question(Protocol):
    """A question about one row or case. ``str`` returns its name in the log."""

    async def ask(self) -> None:
        """Send the question once, and keep the answer. Raises :class:`FaultError` if there is none."""

    def note(self, error: FaultError) -> None:
        """Record a fault. Unless the retries are used up, the question is asked again."""


class Asking:
    """Asks a server questions. Its deadline begins when it is made."""

    def __init__(
        self,
        server: ChatServer,
        interruption: Interruption,
        *,
        name: str,
        noun: str,
        done: str,
        seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        has_answered: bool = False,
        after_retry: str = "",
        outages: Outages | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``name`` starts each line of the log, ``noun`` is what a question is about, in the plural, and
        ``done`` is the word for an answered question, such as ``scored``. ``seconds`` is the time until the
        deadline, and ``sleep`` waits before a retry. ``has_answered`` is whether the server gave answers
        earlier, and ``after_retry`` ends the hint if it is down. A server that is down is noted in
        ``outages``, and one that was noted there a short time ago is not asked. ``clock`` returns seconds."""
        self._server = server
        self._interruption = interruption
        self._name = name
        self._noun = noun
        self._done = done
        self._seconds = seconds
        self._clock = clock
        self._deadline = clock() + seconds
        self._sleep = sleep
        self._has_answered = has_answered
        self._after_retry = after_retry
        self._outages = Outages({}) if outages is None else outages
        self._unanswered = 0
        self._refused = 0
        self._answered_at = clock()

    def ask_all(self, questions: Sequence[Question], what: str) -> int:
        """Ask the questions until the deadline, in an event loop of their own, and close the server. Returns
        how many were not finished by then.

        Raises :class:`UnreachableError` if the server is down, :class:`UserError` if it refuses all
        questions, the errors of :meth:`ChatServer.complete`, and :class:`Interrupted` after SIGTERM.
        """
        self._outages.check(self._server)
        self._answered_at = self._clock()
        try:
            return asyncio.run(self._ask_all(questions, what))
        except UnreachableError as error:
            lost = timedelta(seconds=self._clock() - self._answered_at)
            self._outages.add(self._server, str(error.__cause__), lost)
            raise

    async def _ask_all(self, questions: Sequence[Question], what: str) -> int:
        progress = _AskingProgress(len(questions), what, self._name, self._done)
        async with self._server:
            # The first request runs alone, so that a wrong key or model costs one request.
            await self._run([self._work(iter(questions[:1]), progress)], progress)
            left = iter(questions[1:])
            await self._run([self._work(left, progress) for _ in range(AT_ONCE)], progress)
        logger.info("%s: %s", self._name, progress)
        if progress.left:
            logger.warning("%s: the deadline of %s has passed", self._name, duration_text(self._seconds))
        return progress.left

    async def _run(self, work: Sequence[Coroutine[Any, Any, None]], progress: "_AskingProgress") -> None:
        """Do the work until it is done or the deadline has passed. Raises its first error, and
        :class:`Interrupted` after SIGTERM."""
        pending = tasks = {asyncio.create_task(one) for one in work}
        try:
            while pending and self._clock() < self._deadline:
                if self._interruption.requested:
                    raise Interrupted
                done, pending = await asyncio.wait(
                    pending, timeout=_LOOK_SECONDS, return_when=FIRST_EXCEPTION
                )
                for task in done:
                    task.result()
                progress.log()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, questions: Iterator[Question], progress: "_AskingProgress") -> None:
        """Ask the next questions, until none is left. Several workers share ``questions``."""
        for question in questions:
            try:
                await self._ask(question)
                self._unanswered = 0
                progress.answered += 1
            except FaultError as error:
                self._count(error)
                logger.warning("%s: no answer about %s: %s", self._name, question, error)
                progress.unanswered += 1

    def _count(self, error: FaultError) -> None:
        """Count a question without an answer. Raises the error with which the pod ends if there are too
        many."""
        self._unanswered = self._unanswered + 1 if error.fault.is_outage else 0
        self._refused += error.fault is Fault.REFUSED
        server = f"{self._server.field}: {self._server}"
        if self._unanswered >= MAX_UNANSWERED:
            raise UnreachableError(
                f"{server} did not answer about {MAX_UNANSWERED} {self._noun} one after the other: {error}",
                "check the server, its rate limits, and the pod's network (proxy, NetworkPolicy, DNS)"
                f"{self._after_retry}",
            ) from error
        if self._refused >= MAX_REFUSED and not self._has_answered:
            raise UserError(
                f"{server} refuses all requests: {error}",
                _needed(self._server, self._noun),
            ) from error

    async def _ask(self, question: Question) -> None:
        """Ask a question. Raises the last :class:`FaultError` after the limit of retries for its kind."""
        failed, pauses = Counter[Fault](), backoff_pauses(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                await question.ask()
            except FaultError as error:
                if error.before_answers and not self._has_answered:
                    raise error.before_answers from error
                question.note(error)
                failed[error.fault] += 1
                if failed[error.fault] > MAX_RETRIES[error.fault]:
                    raise
                if error.fault.is_outage:  # a server that gave a wrong answer needs no pause
                    await self._sleep(max(next(pauses), error.retry_after or 0))
            else:
                self._has_answered = True
                self._answered_at = self._clock()
                self._outages.remove(self._server)
                return


def _needed(server: ChatServer, noun: str) -> str:
    if server.path != CHAT:
        return f"check that the server has this API, and accepts texts as long as those of the {noun}"
    return (
        f"use a server that accepts {CHAT} with temperature 0 and max_tokens, and a model whose context is "
        f"long enough for the {noun}"
    )


class _AskingProgress:
    """The progress of many questions, for the log."""

    def __init__(self, total: int, what: str, name: str, done: str) -> None:
        self._total, self._what, self._name, self._done = total, what, name, done
        self._start = self._logged = time.monotonic()
        self.answered = self.unanswered = 0

    def log(self) -> None:
        """Log the progress and the estimated time left, if the last line is old enough."""
        now, done = time.monotonic(), self._total - self.left
        if done and now >= self._logged + LOG_SECONDS:
            self._logged = now
            seconds = (now - self._start) / done * self.left
            logger.info("%s: %s, about %s left", self._name, self, duration_text(seconds))

    @property
    def left(self) -> int:
        """The number of questions that are not finished."""
        return self._total - self.answered - self.unanswered

    def __str__(self) -> str:
        missing = f", {self.unanswered} not {self._done}" if self.unanswered else ""
        return f"{self.answered} of {self._total} {self._what} {self._done}{missing}"
