"""Get the scores of many rows from a judge: a few requests at a time, with retries, limits and a deadline."""

import asyncio
import logging
import time
from asyncio import FIRST_EXCEPTION
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from tunegate_api.backoff import backoff_pauses
from tunegate_api.contract import sha256_text
from tunegate_api.duration import duration_text
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_trainer.judge.answer import Answer, parse_answer
from tunegate_trainer.judge.faults import MAX_RETRIES, Fault, FaultError
from tunegate_trainer.judge.instructions import messages_for, with_reminder
from tunegate_trainer.judge.journal import Journal
from tunegate_trainer.judge.server import JudgeServer
from tunegate_trainer.process.errors import UnreachableError, UserError
from tunegate_trainer.process.interruption import Interrupted, Interruption

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""How many requests run at the same time."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds to wait before the first retry of a row, and the maximum. The pause doubles with each retry, and is
at least as long as the server asks for."""
MAX_UNANSWERED = 5
"""How many rows in a row may have no score because of faults of the server. After that, it counts as down."""
MAX_REFUSED = 3
"""How many rows the server may refuse before it gave any answer. After that, it counts as unable to judge."""
DEADLINE_SECONDS = 3 * 3600
"""Maximum time for all rows. Rows that are not scored by then have no score."""
LOG_SECONDS = 15.0
"""Pause between two lines of the log about progress."""
_LOOK_SECONDS = 0.2
"""Pause between two looks at the deadline and at SIGTERM."""


class Scoring:
    """Asks a judge for the scores of rows. All calls of :meth:`score` share a deadline."""

    def __init__(
        self,
        server: JudgeServer,
        journal: Journal,
        system: str,
        interruption: Interruption,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``system`` is the message from :func:`instructions`. ``sleep`` waits before a retry."""
        self.server = server
        self.journal = journal
        self.system = system
        self._interruption = interruption
        self._sleep = sleep
        self._deadline = time.monotonic() + DEADLINE_SECONDS
        self._unanswered = 0
        self._refused = 0

    async def score(self, rows: Sequence[ReviewRow], what: str) -> dict[str, Answer]:
        """Return the scores of ``rows`` by the digest of the row. Rows without a score are left out.

        Answers are in the journal as soon as they arrive. Raises :class:`UnreachableError` if the server is
        down, the errors of :meth:`JudgeServer.complete`, and :class:`Interrupted` after SIGTERM.
        """
        keys = {row.digest: self._key(row) for row in rows}
        known = self.journal.answers
        missing = [row for row in rows if keys[row.digest] not in known]
        if len(missing) < len(rows):
            logger.info("judge: %d of %d %s are scored already", len(rows) - len(missing), len(rows), what)
        if missing:
            await self._ask_all(missing, what)
        return {digest: known[key] for digest, key in keys.items() if key in known}

    def _key(self, row: ReviewRow) -> str:
        return sha256_text("\n".join([str(self.server), sha256_text(self.system), row.digest]))

    async def _ask_all(self, rows: Sequence[ReviewRow], what: str) -> None:
        progress = _Progress(len(rows), what)
        left = iter(rows)
        # The first request runs alone, so that a wrong key or model costs one request.
        await self._run([self._work(iter([next(left)]), progress)], progress)
        await self._run([self._work(left, progress) for _ in range(AT_ONCE)], progress)
        logger.info("judge: %s", progress)
        if progress.left:
            logger.warning("judge: the deadline of %s has passed", duration_text(DEADLINE_SECONDS))
            self.journal.faults[Fault.NOT_SENT] += progress.left

    async def _run(self, work: Sequence[Coroutine[Any, Any, None]], progress: "_Progress") -> None:
        """Do the work until it is done or the deadline has passed. Raises its first error, and
        :class:`Interrupted` after SIGTERM."""
        pending = tasks = {asyncio.create_task(one) for one in work}
        try:
            while pending and time.monotonic() < self._deadline:
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

    async def _work(self, rows: Iterator[ReviewRow], progress: "_Progress") -> None:
        """Get the scores of the next rows, until none is left. Several workers share ``rows``."""
        for row in rows:
            try:
                await self._ask(row)
                self._unanswered = 0
                progress.scored += 1
            except FaultError as error:
                self._count(error)
                logger.warning("judge: no score for row %s: %s", row.row or row.id, error)
                progress.unscored += 1

    def _count(self, error: FaultError) -> None:
        """Count a row without a score. Raises the error with which the pod ends if there are too many."""
        self._unanswered = self._unanswered + 1 if error.fault.is_outage else 0
        self._refused += error.fault is Fault.REFUSED
        judge = f"{self.server.field}: {self.server}"
        if self._unanswered >= MAX_UNANSWERED:
            raise UnreachableError(
                f"{judge} did not score {MAX_UNANSWERED} rows one after the other: {error}",
                "check the server, its rate limits, and the pod's network (proxy, NetworkPolicy, DNS); rows "
                "that are scored are not sent again",
            ) from error
        if self._refused >= MAX_REFUSED and not self.journal.answers:
            raise UserError(
                f"{judge} refuses all requests: {error}",
                "use a server that accepts /chat/completions with temperature 0 and max_tokens, and a model "
                "whose context is long enough for the rows",
            ) from error

    async def _ask(self, row: ReviewRow) -> None:
        """Get the score of a row. Raises the last :class:`FaultError` after the limit of retries for its
        kind."""
        key, first = self._key(row), messages_for(row, self.system)
        failed, pauses, messages = Counter[Fault](), backoff_pauses(FIRST_PAUSE, LONGEST_PAUSE), first
        while True:
            text = ""
            try:
                text = await self.server.complete(messages)
                self.journal.add_answer(key, parse_answer(text))
            except FaultError as error:
                if error.before_answers and not self.journal.answers:
                    raise error.before_answers from error
                self.journal.add_fault(key, error.fault)
                failed[error.fault] += 1
                if failed[error.fault] > MAX_RETRIES[error.fault]:
                    raise
                messages = with_reminder(first, text)
                await self._sleep(max(next(pauses), error.retry_after or 0))
            else:
                return


class _Progress:
    """The progress of scoring rows, for the log."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._start = self._logged = time.monotonic()
        self.scored = self.unscored = 0

    def log(self) -> None:
        """Log the progress and the estimated time left, if the last line is old enough."""
        now, done = time.monotonic(), self._total - self.left
        if done and now >= self._logged + LOG_SECONDS:
            self._logged = now
            seconds = (now - self._start) / done * self.left
            logger.info("judge: %s, about %s left", self, duration_text(seconds))

    @property
    def left(self) -> int:
        """The number of rows that are not done."""
        return self._total - self.scored - self.unscored

    def __str__(self) -> str:
        missing = f", {self.unscored} without a score" if self.unscored else ""
        return f"{self.scored} of {self._total} {self._what} scored{missing}"
