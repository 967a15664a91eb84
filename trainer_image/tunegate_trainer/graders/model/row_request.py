"""The request to a judge about one row: training data, or an output of a model."""

from tunegate_api.contract.digests import sha256_text
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_trainer.graders.journal import ServerAnswer
from tunegate_trainer.graders.model.answer import GOOD, parse_answer
from tunegate_trainer.graders.model.instructions import MAX_TOKENS, messages_for, with_reminder
from tunegate_trainer.graders.server.chat_server import ChatServer


class RowRequest:
    """Asks a judge for the score of a row. After a malformed answer, the next request has a reminder."""

    def __init__(self, row: ReviewRow, system: str, verdict: str = GOOD) -> None:
        """``system`` is a message from :mod:`instructions`, and ``verdict`` the field of an answer that has
        the score."""
        self.parts = (sha256_text(system), row.digest)
        self._name = f"row {row.row or row.id}"
        self._verdict = verdict
        self._first = self._messages = messages_for(row, system)

    def __str__(self) -> str:
        return self._name

    async def send(self, server: ChatServer) -> ServerAnswer:
        text = ""
        try:
            text = (await server.complete(self._messages, MAX_TOKENS)).text
            return parse_answer(text, self._verdict)
        finally:
            self._messages = with_reminder(self._first, text, self._verdict)  # if the answer is malformed
