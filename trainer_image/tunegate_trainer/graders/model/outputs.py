"""Get the answers of a judge model about outputs of models. They are kept on the volume, so that an equal
output is not sent again."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunegate_api.contract.digests import sha256_text
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.v1alpha1.endpoint import Endpoint
from tunegate_trainer.graders.journal import Journal
from tunegate_trainer.graders.model.answer import GOOD, JudgeAnswer
from tunegate_trainer.graders.model.scoring import Scoring
from tunegate_trainer.graders.server.chat_server import ChatServer, open_server
from tunegate_trainer.graders.server.outages import Outages
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 3600
"""Maximum time for the outputs of one model on one set of cases, because the pod holds a GPU meanwhile.
Outputs without a score by then are errors."""


@dataclass
class OutputJudge:
    """A judge model that is asked about outputs, and the file with its answers."""

    context: Context
    endpoint: Endpoint
    field: str
    """The field of the spec that errors name: the endpoint."""
    system: str
    """The instructions that identify the file with the answers."""
    is_direct: bool
    """Whether proxies and certificate authorities in the environment are ignored."""
    verdict: str = GOOD
    """The field of an answer that has the score, see :func:`~tunegate_trainer.graders.model.answer.parse_answer`."""
    failure: TrainerError | None = None
    """Why the last requests ended early, for example because the server is down; None if they did not."""

    @property
    def answers(self) -> Path:
        """The file on the volume. Judges with the same server and instructions share it, but a judge that is
        asked directly does not use answers that the job's proxy may have forged."""
        parts = [
            self.endpoint.url,
            self.endpoint.model,
            self.system,
            *(["direct"] if self.is_direct else []),
        ]
        digest = sha256_text("\n".join(parts))
        return self.context.workspace / self.context.paths.judge_answers(digest)

    def open(self) -> ChatServer:
        """Return the server. Sends nothing. Raises :class:`TrainerError` if the address or the API key cannot
        be used."""
        return open_server(self.context, self.endpoint, self.field, is_direct=self.is_direct)

    def score(
        self, requests: Sequence[tuple[ReviewRow, str]], what: str = "outputs", *, again: bool = False
    ) -> list[JudgeAnswer | str]:
        """Return the score of each output, or why it has none. ``requests`` has each output with its system
        message. Outputs with a known score are not sent again, unless ``again`` is true."""
        problem = f"the judge did not answer within {DEADLINE_SECONDS // 60} min"
        self.failure = None

        async def ask(scoring: Scoring) -> None:
            async with scoring.server:
                await scoring.answers(requests, what)

        with self.context.interruption.deferred(), Journal(self.answers) as journal:
            try:
                server = self.open()
            except TrainerError as error:
                self.failure = error
                return [str(error)] * len(requests)
            scoring = Scoring(
                server,
                journal,
                self.system,
                self.context.interruption,
                noun=what,
                seconds=DEADLINE_SECONDS,
                verdict=self.verdict,
                outages=Outages.of(self.context),
            )
            keys = [scoring.key(*request) for request in requests]
            for key in keys if again else ():
                journal.answers.pop(key, None)
            try:
                asyncio.run(ask(scoring))
            except TrainerError as error:
                logger.warning("judge: %s", error)
                problem, self.failure = str(error), error
        self.context.interruption.check()
        return [journal.answers.get(key) or scoring.problems.get(key) or problem for key in keys]

    @property
    def faults(self) -> dict[str, int]:
        """The number of failed requests of this job by kind of fault."""
        if not self.answers.exists():
            return {}
        with Journal(self.answers) as journal:
            return {str(fault): count for fault, count in journal.faults.items()}
