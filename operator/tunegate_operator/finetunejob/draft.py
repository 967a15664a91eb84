"""The status being written: each policy adds its part, and the end makes one decision of it."""

from dataclasses import dataclass
from datetime import datetime

from tunegate_api.meta import cut
from tunegate_api.v1alpha1 import FineTuneJobStatus
from tunegate_api.v1alpha1.finetunejob_status import Failure, Phase, Reason
from tunegate_operator.children.failures import with_hint
from tunegate_operator.children.waiting import start_timeout
from tunegate_operator.engine.controller import Action, Agenda, Create


@dataclass
class Draft:
    """What one decision has found so far. Made anew each time; nothing is remembered in it."""

    status: FineTuneJobStatus
    agenda: Agenda
    reason: Reason = Reason.PROGRESSING
    """Why the job is where it is: the reason of its Ready condition, unless it failed."""
    regression: str = ""
    """The arithmetic of a regression that the last checkpoint shows; empty when it shows none."""

    @property
    def now(self) -> datetime:
        return self.agenda.now

    def set(self, **changes: object) -> None:
        """Change fields of the status."""
        self.status = self.status.model_copy(update=changes)

    def enter(self, phase: Phase, message: str, reason: Reason = Reason.PROGRESSING) -> None:
        """Be in a phase, nothing to wait for."""
        self.reason = reason
        self.set(phase=phase, message=cut(message), waiting_since=None)

    def fail(self, failure: Failure) -> None:
        """End the job. What it was about to start is not started; what it was told is kept."""
        self.agenda.actions = [action for action in self.agenda.actions if not _starts(action)]
        message = cut(f"{failure.reason}: {failure.message}")
        self.set(failure=with_hint(failure), message=message, waiting_since=None)
        self.end(Phase.FAILED)

    @property
    def starts_something(self) -> bool:
        """Whether a pod follows from this decision."""
        return any(_starts(action) for action in self.agenda.actions)

    def end(self, phase: Phase) -> None:
        self.set(phase=phase, completion_time=self.status.completion_time or self.now)

    def wait(self, phase: Phase, reason: Reason, message: str, timeout_seconds: int) -> None:
        """Wait for what may come, until the job has waited too long."""
        since = self.status.waiting_since or self.now
        if self._may_wait(since, reason, message, timeout_seconds):
            self.reason = reason
            self.set(phase=phase, message=cut(message), waiting_since=since)

    def expect(self, phase: Phase, message: str, since: datetime, timeout_seconds: int) -> None:
        """Be in a phase whose pod should start soon. Nothing is said of it, but it has the same time."""
        if self._may_wait(since, Reason.POD_NOT_STARTED, f"no pod: {message}", timeout_seconds):
            self.enter(phase, message)

    def _may_wait(self, since: datetime, reason: Reason, message: str, timeout_seconds: int) -> bool:
        """Whether there is time left. If not, the job has failed."""
        failure = start_timeout(since, self.agenda, reason, message, timeout_seconds)
        if failure:
            hint = (
                "Provide what is missing; then delete the job and create it again, with a longer "
                "startTimeoutSeconds if that may take as long."
            )
            self.fail(failure.model_copy(update={"hint": hint}))
        return failure is None


def _starts(action: Action) -> bool:
    return isinstance(action, Create) and action.obj["kind"] != "ConfigMap"
