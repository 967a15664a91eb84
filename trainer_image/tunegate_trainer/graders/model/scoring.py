"""Get the scores of many rows from a judge."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from tunegate_api.contract.digests import sha256_text
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_trainer.graders.journal import Journal
from tunegate_trainer.graders.model.answer import GOOD, JudgeAnswer, parse_answer
from tunegate_trainer.graders.model.instructions import MAX_TOKENS, messages_for, with_reminder
from tunegate_trainer.graders.server.asking import Asking
from tunegate_trainer.graders.server.chat_server import ChatServer
from tunegate_trainer.graders.server.faults import Fault, FaultError
from tunegate_trainer.graders.server.outages import Outages
from tunegate_trainer.process.interruption import Interruption

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 3 * 3600
"""Maximum time for all rows. Rows that are not scored by then have no score."""


class Scoring:
    """Asks a judge for scores. All calls of :meth:`score` and :meth:`answers` share a deadline."""

    def __init__(
        self,
        server: ChatServer,
        journal: Journal,
        system: str,
        interruption: Interruption,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        noun: str = "rows",
        seconds: float | None = None,
        verdict: str = GOOD,
        outages: Outages | None = None,
    ) -> None:
        """``system`` is the message from :func:`instructions`. ``sleep`` waits before a retry. ``noun`` is
        what is scored, in the plural, ``seconds`` the time until the deadline, by default DEADLINE_SECONDS,
        and ``verdict`` the field of the score in an answer. For ``outages``, see :class:`Asking`."""
        self.server = server
        self.journal = journal
        self.system = system
        self.verdict = verdict
        self.problems: dict[str, str] = {}
        """Why a request has no answer, by its key, see :meth:`key`."""
        self._asking = Asking(
            server,
            interruption,
            name="judge",
            noun=noun,
            done="scored",
            seconds=DEADLINE_SECONDS if seconds is None else seconds,
            sleep=sleep,
            has_answered=bool(journal.answers),
            after_retry=f"; {noun} that are scored are not sent again",
            outages=outages,
        )

    async def score(self, rows: Sequence[ReviewRow], what: str) -> dict[str, JudgeAnswer]:
        """Return the scores of ``rows`` by the digest of the row. Rows without a score are left out.

        Answers are in the journal as soon as they arrive. Raises the errors of :meth:`Asking.ask_all`.
        """
        found = await self.answers([(row, self.system) for row in rows], what)
        by_row = zip(rows, found, strict=True)
        return {row.digest: answer for row, answer in by_row if answer is not None}

    async def answers(self, asked: Sequence[tuple[ReviewRow, str]], what: str) -> list[JudgeAnswer | None]:
        """Return the score of each row with its own system message; None for a row without a score. Equal
        rows with equal messages are sent once. Raises the errors of :meth:`Asking.ask_all`."""
        keys = [self.key(row, system) for row, system in asked]
        known = self.journal.answers
        missing = {key: each for key, each in zip(keys, asked, strict=True) if key not in known}
        scored = sum(key in known for key in keys)
        if scored:
            logger.info("judge: %d of %d %s are scored already", scored, len(keys), what)
        if missing:
            questions = [_RowQuestion(row, system, key, self) for key, (row, system) in missing.items()]
            left = await self._asking.ask_all(questions, what)
            if left:
                self.journal.faults[Fault.NOT_SENT] += left
        return [known.get(key) for key in keys]

    def key(self, row: ReviewRow, system: str) -> str:
        """Return the key of a request: a digest of the server, the model, the system message and the row, and
        of whether the server is asked without the proxies in the environment."""
        direct = ["direct"] if self.server.is_direct else []
        return sha256_text("\n".join([str(self.server), sha256_text(system), row.digest, *direct]))


class _RowQuestion:
    """The question for the score of a row."""

    def __init__(self, row: ReviewRow, system: str, key: str, scoring: Scoring) -> None:
        self._row, self._key, self._scoring = row, key, scoring
        self._first = self._messages = messages_for(row, system)

    def __str__(self) -> str:
        return f"row {self._row.row or self._row.id}"

    async def ask(self) -> None:
        text = ""
        try:
            text = (await self._scoring.server.complete(self._messages, MAX_TOKENS)).text
            self._scoring.journal.add_answer(self._key, parse_answer(text, self._scoring.verdict))
        finally:
            self._messages = with_reminder(
                self._first, text, self._scoring.verdict
            )  # if the answer is malformed

    def note(self, error: FaultError) -> None:
        self._scoring.problems[self._key] = str(error)
        self._scoring.journal.add_fault(self._key, error.fault)
