"""Get the answers of a server about outputs. They are kept on the volume, so that an equal output is not sent
again."""

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunegate_api.contract.digests import sha256_text
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_trainer.graders.journal import Journal, ServerAnswer
from tunegate_trainer.graders.server.asking import Asking
from tunegate_trainer.graders.server.chat_server import CHAT, ChatServer, open_server
from tunegate_trainer.graders.server.faults import Fault, FaultError
from tunegate_trainer.graders.server.outages import Outages
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError

logger = logging.getLogger(__name__)

ROWS_SECONDS = 3 * 3600
"""Maximum time for the rows of a job before it trains. Rows without an answer by then have no score."""
DEADLINE_SECONDS = 3600
"""Maximum time for the outputs of one model on one set of cases, because the pod holds a GPU meanwhile.
Outputs without an answer by then are errors."""


@dataclass(frozen=True)
class ServerKind:
    """The words for a kind of server in logs and errors."""

    name: str
    verb: str
    """What the server does with an output."""
    answer: str
    """What the output gets."""


JUDGE = ServerKind("judge", "score", "score")
GUARDRAIL = ServerKind("guardrail", "rate", "rating")


class GradingRequest(Protocol):
    """A request about one output. ``str`` returns its name in the log."""

    @property
    def parts(self) -> Sequence[str]:
        """What identifies the content of the request. Requests with equal parts are sent once."""

    async def send(self, server: ChatServer) -> ServerAnswer:
        """Send the request once. Raises :class:`FaultError` if there is no answer."""


@dataclass
class GradingServer:
    """A server that grades outputs, and the file with its answers."""

    context: Context
    kind: ServerKind
    endpoint: Endpoint
    field: str
    """The field of the spec that errors name: the endpoint."""
    asks: str
    """What the server is asked, such as the instructions of a judge. It identifies the file."""
    path: str = CHAT
    """What is appended to the URL of the endpoint."""
    is_direct: bool = False
    """Whether proxies and certificate authorities in the environment are ignored."""
    file: Path | None = None
    """The file with the answers on the volume. By default, servers of gates that are asked the same share a
    file, but a server that is asked directly uses no answers that the job's proxy may have forged."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits before a retry."""
    failure: TrainerError | None = dataclasses.field(default=None, init=False)
    """Why the last call of :meth:`grade` ended early, for example because the server is down; None if it did
    not."""
    _not_sent: int = dataclasses.field(default=0, init=False)

    @property
    def model(self) -> str:
        return self.endpoint.model

    @property
    def faults(self) -> dict[str, int]:
        """The number of failed requests of this job by kind of fault."""
        found = Counter[Fault]()
        if self._file.exists():
            with Journal(self._file) as journal:
                found += journal.faults
        if self._not_sent:
            found[Fault.NOT_SENT] = self._not_sent
        return {str(fault): count for fault, count in found.items()}

    def open(self) -> ChatServer:
        """Return the server. Sends nothing. Raises :class:`TrainerError` if the address or the API key cannot
        be used."""
        return open_server(self.context, self.endpoint, self.field, path=self.path, is_direct=self.is_direct)

    def grade(
        self, requests: Sequence[GradingRequest], what: str = "outputs", *, again: bool = False
    ) -> list[ServerAnswer | str]:
        """Return the answer about each output, or why there is none. Outputs with a known answer are not sent
        again, unless ``again`` is true. Raises :class:`Interrupted` after SIGTERM."""
        problem = f"the {self.kind.name} did not answer within {DEADLINE_SECONDS // 60} min"
        self.failure = None
        with self.context.interruption.deferred(), Journal(self._file) as journal:
            try:
                batch = _Batch(self.open(), journal, requests)
            except TrainerError as error:
                self.failure = error
                return [str(error)] * len(requests)
            if again:
                batch.forget()
            try:
                self._send(batch, what, noun=what, seconds=DEADLINE_SECONDS, outages=Outages.of(self.context))
            except TrainerError as error:
                logger.warning("%s: %s", self.kind.name, error)
                problem, self.failure = str(error), error
        self.context.interruption.check()
        return [batch.answer(key) or batch.questions[key].problem or problem for key in batch.keys]

    def ask(
        self, requests: Sequence[GradingRequest], what: str, seconds: float | None = None
    ) -> list[ServerAnswer | None]:
        """Return the answer about each row; None for a row without an answer after ``seconds``, by default
        ROWS_SECONDS. Rows with a known answer are not sent again.

        Raises :class:`Interrupted` after SIGTERM, :class:`TrainerError` if the address or the API key cannot
        be used, and the errors of :meth:`Asking.ask_all`.
        """
        with self.context.interruption.deferred(), Journal(self._file) as journal:
            batch = _Batch(self.open(), journal, requests)
            seconds = ROWS_SECONDS if seconds is None else seconds
            self._send(batch, what, noun="rows", seconds=seconds, outages=Outages({}))
        self.context.interruption.check()
        return [batch.answer(key) for key in batch.keys]

    @property
    def _file(self) -> Path:
        if self.file is not None:
            return self.file
        direct = ["direct"] if self.is_direct else []
        digest = sha256_text("\n".join([self.endpoint.url, self.model, self.asks, *direct]))
        return self.context.workspace / self.context.paths.server_answers(digest)

    def _send(self, batch: "_Batch", what: str, *, noun: str, seconds: float, outages: Outages) -> None:
        """Send the requests without an answer. Answers are in the journal as soon as they arrive."""
        missing = [each for key, each in batch.questions.items() if batch.answer(key) is None]
        known = sum(batch.answer(key) is not None for key in batch.keys)
        name, done = self.kind.name, f"{self.kind.verb}d"
        if known:
            logger.info("%s: %d of %d %s are %s already", name, known, len(batch.keys), what, done)
        if not missing:
            return
        asking = Asking(
            batch.server,
            self.context.interruption,
            name=name,
            noun=noun,
            done=done,
            seconds=seconds,
            sleep=self.sleep,
            has_answered=bool(batch.journal.answers),
            after_retry=f"; {noun} that are {done} are not sent again",
            outages=outages,
        )
        self._not_sent += asking.ask_all(missing, what)


class _Batch:
    """Requests to a server. Equal ones share a question."""

    def __init__(self, server: ChatServer, journal: Journal, requests: Sequence[GradingRequest]) -> None:
        self.server = server
        self.journal = journal
        direct = ["direct"] if server.is_direct else []
        self.keys = [sha256_text("\n".join([str(server), *each.parts, *direct])) for each in requests]
        """The key of each request: it also depends on whether the server is asked without the proxies in the
        environment."""
        self.questions = {
            key: _Question(key, request, server, journal)
            for key, request in zip(self.keys, requests, strict=True)
        }

    def answer(self, key: str) -> ServerAnswer | None:
        return self.journal.answers.get(key)

    def forget(self) -> None:
        """Do not use known answers."""
        for key in self.questions:
            self.journal.answers.pop(key, None)


class _Question:
    """A request that is sent until it has an answer, which the journal keeps."""

    def __init__(self, key: str, request: GradingRequest, server: ChatServer, journal: Journal) -> None:
        self.problem = ""
        """Why the request has no answer. Empty if it was not sent."""
        self._key = key
        self._request = request
        self._server = server
        self._journal = journal

    def __str__(self) -> str:
        return str(self._request)

    async def ask(self) -> None:
        self._journal.add_answer(self._key, await self._request.send(self._server))

    def note(self, error: FaultError) -> None:
        self.problem = str(error)
        self._journal.add_fault(self._key, error.fault)
