"""Get the ratings of many answers from a guardrail, which is probed first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tunegate_api.cases.guardrail_probes import ProbeAssessment, ProbeCounts
from tunegate_api.v1alpha1.guardrail import Guardrail, GuardrailProbe
from tunegate_trainer.graders.guardrail.probes import PROBES, REFUSALS
from tunegate_trainer.graders.guardrail.protocols import PROTOCOLS, Exchange, Protocol, Rated, Rating
from tunegate_trainer.graders.server.asking import Asking
from tunegate_trainer.graders.server.chat_server import ChatServer, open_server
from tunegate_trainer.graders.server.faults import FaultError
from tunegate_trainer.graders.server.outages import Outages
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 3600
"""Maximum time for the outputs of one model on one set of cases, because the pod holds a GPU meanwhile.
Answers without a rating by then are errors."""


@dataclass
class Guard:
    """A guardrail. It remembers its ratings, so that equal answers are rated once."""

    context: Context
    guardrail: Guardrail
    name: str
    """The field of the spec that errors name."""
    is_direct: bool = False
    """Whether proxies and certificate authorities in the environment are ignored."""
    rates_refusals: bool = False
    """Whether the guardrail rates answers to the harmful requests of a safety set. Then it must rate refusals
    of such requests as safe, too."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits before a retry."""
    probed: ProbeCounts | None = None
    """The result of the last probing; None before it."""
    failure: TrainerError | None = None
    """Why the last requests ended early, for example because the server is down; None if they did not."""
    _known: dict[Exchange, Rating] = field(default_factory=dict)

    def open(self) -> ChatServer:
        """Return the server. Sends nothing. Raises :class:`TrainerError` if the address or the API key cannot
        be used."""
        path = PROTOCOLS[self.guardrail.protocol].path
        name = f"{self.name}.endpoint"
        endpoint = self.guardrail.endpoint
        return open_server(self.context, endpoint, name, path=path, is_direct=self.is_direct)

    def problem(self) -> str | None:
        """Probe the guardrail, unless it has passed already. Return why its ratings do not count; None if
        they do."""
        if self.probed and ProbeAssessment(self.probed).has_passed:
            return None
        probes: Sequence[GuardrailProbe] = self.guardrail.probes or PROBES
        refusals = REFUSALS if self.rates_refusals else ()
        exchanges = [Exchange(probe.prompt, probe.completion) for probe in (*probes, *refusals)]
        for each in exchanges:  # a guardrail that failed may have been corrected
            self._known.pop(each, None)
        found = self.rate(exchanges)
        self.probed = _counts(probes, found[: len(probes)], found[len(probes) :])
        assessed = ProbeAssessment(self.probed)
        logger.info("guardrail: %s: %s", "passed" if assessed.has_passed else "failed", assessed.message)
        if assessed.has_passed:
            return None
        why = next((each for each in found if isinstance(each, str)), "")
        return f"it rates its probes wrongly: {assessed.message}{f' ({why})' if why else ''}"

    def rate(self, exchanges: Sequence[Exchange]) -> list[Rating | str]:
        """Return the rating of each answer, or why it has none. Raises :class:`Interrupted` after SIGTERM."""
        missing = [each for each in dict.fromkeys(exchanges) if each not in self._known]
        problems: dict[Exchange, str] = {}
        if missing:
            with self.context.interruption.deferred():
                problems = asyncio.run(self._ask(missing))
            self.context.interruption.check()
        return [self._known.get(each) or problems[each] for each in exchanges]

    async def _ask(self, exchanges: Sequence[Exchange]) -> dict[Exchange, str]:
        """Ask for the ratings, and return why others are missing."""
        problem = f"the guardrail did not answer within {DEADLINE_SECONDS // 60} min"
        questions: list[_GuardQuestion] = []
        self.failure = None
        try:
            async with self.open() as server:
                protocol = PROTOCOLS[self.guardrail.protocol]
                questions = [
                    _GuardQuestion(number, each, server, protocol, self._known)
                    for number, each in enumerate(exchanges, start=1)
                ]
                asking = Asking(
                    server,
                    self.context.interruption,
                    name="guardrail",
                    noun="answers",
                    done="rated",
                    seconds=DEADLINE_SECONDS,
                    sleep=self.sleep,
                    has_answered=bool(self._known),
                    outages=Outages.of(self.context),
                )
                await asking.ask_all(questions, "answers")
        except TrainerError as error:
            logger.warning("guardrail: %s", error)
            problem, self.failure = str(error), error
        return dict.fromkeys(exchanges, problem) | {q.exchange: q.problem for q in questions if q.problem}


class _GuardQuestion:
    """The question for the rating of an answer."""

    def __init__(
        self,
        number: int,
        exchange: Exchange,
        server: ChatServer,
        protocol: Protocol,
        known: dict[Exchange, Rating],
    ) -> None:
        self.exchange = exchange
        self.problem = ""
        self._number = number
        self._server = server
        self._protocol = protocol
        self._known = known

    def __str__(self) -> str:
        return f"answer {self._number}"

    async def ask(self) -> None:
        body = {"model": self._server.model, **self._protocol.body(self.exchange)}
        self._known[self.exchange] = self._protocol.read(await self._server.post(body))

    def note(self, error: FaultError) -> None:
        self.problem = str(error)


def _counts(
    probes: Sequence[GuardrailProbe], found: Sequence[Rating | str], refusals: Sequence[Rating | str]
) -> ProbeCounts:
    """Return the counts of the ratings ``found`` for ``probes``, and of those of ``refusals``, which may be
    empty."""
    both = zip(probes, found, strict=True)
    rated = [(probe.rating, each.rated) for probe, each in both if isinstance(each, Rating)]
    accepted = sum(isinstance(each, Rating) and each.rated is Rated.SAFE for each in refusals)
    safe = sum(probe.rating == "Safe" for probe in probes)
    return ProbeCounts(
        safe=safe,
        safe_accepted=rated.count(("Safe", Rated.SAFE)),
        unsafe=len(probes) - safe,
        unsafe_flagged=rated.count(("Unsafe", Rated.UNSAFE)),
        refusals=len(refusals) or None,
        refusals_accepted=accepted if refusals else None,
        unrated=sum(isinstance(each, str) for each in (*found, *refusals)),
    )
