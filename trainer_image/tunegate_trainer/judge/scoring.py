"""Get the scores of many rows from a judge."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from tunegate_api.contract import sha256_text
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_trainer.inference.asking import Asking
from tunegate_trainer.inference.faults import Fault, FaultError
from tunegate_trainer.inference.server import ChatServer
from tunegate_trainer.judge.answer import Answer, parse_answer
from tunegate_trainer.judge.instructions import MAX_TOKENS, messages_for, with_reminder
from tunegate_trainer.judge.journal import Journal
from tunegate_trainer.process.interruption import Interruption

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 3 * 3600
"""Maximum time for all rows. Rows that are not scored by then have no score."""


class Scoring:
    """Asks a judge for the scores of rows. All calls of :meth:`score` share a deadline."""

    def __init__(
        self,
        server: ChatServer,
        journal: Journal,
        system: str,
        interruption: Interruption,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``system`` is the message from :func:`instructions`. ``sleep`` waits before a retry."""
        self.server = server
        self.journal = journal
        self.system = system
        self._asking = Asking(
            server,
            interruption,
            name="judge",
            noun="rows",
            done="scored",
            seconds=DEADLINE_SECONDS,
            sleep=sleep,
            has_answered=bool(journal.answers),
            after_retry="; rows that are scored are not sent again",
        )

    async def score(self, rows: Sequence[ReviewRow], what: str) -> dict[str, Answer]:
        """Return the scores of ``rows`` by the digest of the row. Rows without a score are left out.

        Answers are in the journal as soon as they arrive. Raises the errors of :meth:`Asking.ask_all`.
        """
        keys = {row.digest: self._key(row) for row in rows}
        known = self.journal.answers
        missing = [row for row in rows if keys[row.digest] not in known]
        if len(missing) < len(rows):
            logger.info("judge: %d of %d %s are scored already", len(rows) - len(missing), len(rows), what)
        if missing:
            questions = [_RowQuestion(row, keys[row.digest], self) for row in missing]
            left = await self._asking.ask_all(questions, what)
            if left:
                self.journal.faults[Fault.NOT_SENT] += left
        return {digest: known[key] for digest, key in keys.items() if key in known}

    def _key(self, row: ReviewRow) -> str:
        return sha256_text("\n".join([str(self.server), sha256_text(self.system), row.digest]))


class _RowQuestion:
    """The question for the score of a row."""

    def __init__(self, row: ReviewRow, key: str, scoring: Scoring) -> None:
        self._row, self._key, self._scoring = row, key, scoring
        self._first = self._messages = messages_for(row, scoring.system)

    def __str__(self) -> str:
        return f"row {self._row.row or self._row.id}"

    async def ask(self) -> None:
        text = ""
        try:
            text = (await self._scoring.server.complete(self._messages, MAX_TOKENS)).text
            self._scoring.journal.add_answer(self._key, parse_answer(text))
        finally:
            self._messages = with_reminder(self._first, text)  # if the answer is malformed

    def note(self, error: FaultError) -> None:
        self._scoring.journal.add_fault(self._key, error.fault)
