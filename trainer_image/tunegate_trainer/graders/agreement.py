"""Test whether a server agrees with people, so that its answers count: with answers that people labelled."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tunegate_api.cases.probes import ProbeCounts, RefusalProbeCounts
from tunegate_trainer.graders.grading_server import GradingRequest, GradingServer
from tunegate_trainer.graders.journal import Label, ServerAnswer

logger = logging.getLogger(__name__)


class CheckedServer(Protocol):
    """A server whose answers count only if it agrees with people."""

    @property
    def server(self) -> GradingServer:
        """The server that is asked."""

    def problem(self) -> str | None:
        """Return why the answers of the server do not count; None if they do."""


def agreed(labels: Sequence[Label], found: Sequence[ServerAnswer | str | None], label: Label) -> int:
    """Return how many of the answers with this ``label`` the server gave it, too. ``labels`` has the label of
    each answer by people, and ``found`` what the server said."""
    both = zip(labels, found, strict=True)
    return sum(
        wanted == label and isinstance(each, ServerAnswer) and each.label == label for wanted, each in both
    )


def unanswered(found: Sequence[ServerAnswer | str | None]) -> int:
    """Return about how many answers the server said nothing. None of them is counted as agreed."""
    return sum(not isinstance(each, ServerAnswer) for each in found)


@dataclass
class ProbedServer:
    """A server that is probed in each process before its answers count."""

    server: GradingServer
    probes: Callable[[], Sequence[GradingRequest]]
    """Makes the requests about answers with known labels."""
    count: Callable[[Sequence[ServerAnswer | str]], ProbeCounts | RefusalProbeCounts]
    """Compares the answers of the server with the known labels."""
    probed: ProbeCounts | RefusalProbeCounts | None = None
    """The result of the last probing; None before it."""

    def problem(self) -> str | None:
        """Probe the server, unless it has passed already. Return why its answers do not count; None if they
        do. Answers on the volume are not used, because another model may answer now."""
        if self.probed and self.probed.assessment.has_passed:
            return None
        found = self.server.grade(self.probes(), "probes", again=True)
        self.probed = self.count(found)
        assessed, kind = self.probed.assessment, self.server.kind
        logger.info("%s: %s: %s", kind.name, "passed" if assessed.has_passed else "failed", assessed.message)
        if assessed.has_passed:
            return None
        why = next((each for each in found if isinstance(each, str)), "")
        return f"it {kind.verb}s its probes wrongly: {assessed.message}{f' ({why})' if why else ''}"
