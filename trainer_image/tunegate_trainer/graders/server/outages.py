"""Remember which servers are down, so that evaluations do not all wait for the same server."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from tunegate_api.backoff import backoff
from tunegate_api.contract.process import Role
from tunegate_trainer.graders.server.chat_server import ChatServer
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UnreachableError

SHORTEST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)
"""How long a server that was down is not asked, at least and at most."""


@dataclass(frozen=True)
class _Outage:
    problem: str
    failures: int
    ends: datetime


@dataclass
class Outages:
    """The servers that were down when this process asked them last.

    The first time, a server is not asked for as long as it took to find out that it is down. This wait
    doubles each time that it is still down. So a long stage loses little time, and a short one still gets
    scores after a short outage.
    """

    known: dict[tuple[str, bool], _Outage] = field(default_factory=dict)
    """The last outage of each server, by its address and whether proxies are ignored."""

    @classmethod
    def of(cls, context: Context) -> Self:
        """Return the outages that a process remembers. Only training does: other roles evaluate once, and
        their errors are final."""
        return context.services.once(cls, "", cls) if context.role is Role.TRAIN else cls()

    def check(self, server: ChatServer) -> None:
        """Raise :class:`UnreachableError` if the server was down, and is not to be asked yet."""
        found = self.known.get(_key(server))
        if found and datetime.now(UTC) < found.ends:
            raise UnreachableError(
                f"{server.field}: {server} was down and is not asked before {found.ends:%H:%M:%S} UTC: "
                f"{found.problem}",
                "check the server, its rate limits, and the pod's network (proxy, NetworkPolicy, DNS)",
            )

    def add(self, server: ChatServer, problem: str, lost: timedelta) -> None:
        """Note that the server is down, and why. ``lost`` is how long it took to find out."""
        known = self.known.get(_key(server))
        failures = known.failures + 1 if known else 1
        ends = datetime.now(UTC) + backoff(max(lost, SHORTEST_WAIT), LONGEST_WAIT, failures)
        self.known[_key(server)] = _Outage(problem, failures, ends)

    def remove(self, server: ChatServer) -> None:
        """Note that the server has answered."""
        self.known.pop(_key(server), None)


def _key(server: ChatServer) -> tuple[str, bool]:
    return str(server), server.is_direct
