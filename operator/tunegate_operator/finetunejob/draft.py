"""What the functions of one decision about a FineTuneJob share: their input, and the draft of the status."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypedDict, Unpack

from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results, Subject
from tunegate_api.judging.stages import StageAssessment
from tunegate_api.meta import Sha256, cut
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.cost import Cost
from tunegate_api.v1alpha2.data_status import DataCheckResult, DataStatus
from tunegate_api.v1alpha2.error_rate_status import JobErrorRate
from tunegate_api.v1alpha2.evaluation_status import (
    BaselineDigest,
    CheckpointReference,
    CheckpointStatus,
    FinalStatus,
    PersonDecision,
)
from tunegate_api.v1alpha2.finetunejob_status import (
    Attempt,
    Cleanup,
    Eviction,
    Failure,
    PlanStatus,
    Progress,
    Published,
    Stop,
    TrackingStatus,
)
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children.child_jobs import ChildJobs, Ledger
from tunegate_operator.children.failures import with_hint
from tunegate_operator.children.job import PodSettings
from tunegate_operator.children.waiting import start_timeout
from tunegate_operator.engine.controller import Action, Agenda, Create
from tunegate_operator.finetunejob.build import gpus
from tunegate_operator.finetunejob.observe import ObservedJob
from tunegate_operator.names import Step


class StatusChanges(TypedDict, total=False):
    """The types of the FineTuneJobStatus fields that a decision may change."""

    phase: Phase | None
    message: str
    waiting_since: datetime | None
    start_time: datetime | None
    completion_time: datetime | None
    request: str | None
    request_sha256: Sha256 | None
    plan: PlanStatus | None
    data: DataStatus | None
    data_checks: list[DataCheckResult]
    progress: Progress | None
    start: list[CheckpointStatus]
    checkpoints: list[CheckpointStatus]
    checkpoints_omitted: int
    best_checkpoint: CheckpointReference | None
    final: FinalStatus | None
    published: list[Published]
    baselines: list[BaselineDigest]
    error_rates: list[JobErrorRate]
    stop: Stop | None
    decisions: list[PersonDecision]
    failure: Failure | None
    attempts: list[Attempt]
    evictions: list[Eviction]
    running_seconds: int
    gpu_seconds: int
    counted_until: datetime | None
    cost: Cost | None
    tracking: TrackingStatus | None
    cleanup: Cleanup | None


@dataclass
class Draft:
    """The status and the agenda that a decision builds. Each decision starts with a new draft."""

    status: FineTuneJobStatus
    agenda: Agenda
    reason: Reason = Reason.PROGRESSING
    """The reason of the Ready condition, unless the job failed or succeeded."""
    is_trained: bool = False
    """Whether every training stage ended with a checkpoint that passed."""
    regression: StageAssessment | None = None
    """The regression at the last checkpoint; None if the checkpoint did not regress."""

    @property
    def now(self) -> datetime:
        return self.agenda.now

    def set(self, **changes: Unpack[StatusChanges]) -> None:
        """Change fields of the status.

        Raises TypeError for a field that does not exist, and ValueError for a value of the wrong type.
        """
        unknown = changes.keys() - FineTuneJobStatus.model_fields.keys()
        if unknown:
            raise TypeError(f"FineTuneJobStatus has no field {', '.join(sorted(unknown))}")
        checked = FineTuneJobStatus.model_validate(changes)
        self.status = self.status.model_copy(update={name: getattr(checked, name) for name in changes})

    def enter(self, phase: Phase, message: str, reason: Reason = Reason.PROGRESSING) -> None:
        """Enter a phase, and end a wait that :meth:`wait` began, so that its start timeout no longer runs."""
        self.reason = reason
        self.set(phase=phase, message=cut(message), waiting_since=None)

    def fail(self, failure: Failure) -> None:
        """Fail the job. This decision then starts no pod, but still records results."""
        self.agenda.actions = [action for action in self.agenda.actions if not _starts(action)]
        message = cut(f"{failure.reason}: {failure.message}")
        self.set(failure=with_hint(failure), message=message, waiting_since=None)
        self.end(Phase.FAILED)

    @property
    def starts_something(self) -> bool:
        """Whether this decision starts a pod."""
        return any(_starts(action) for action in self.agenda.actions)

    def end(self, phase: Phase) -> None:
        self.set(phase=phase, completion_time=self.status.completion_time or self.now)

    def wait(self, phase: Phase, reason: Reason, message: str, timeout_seconds: int) -> None:
        """Show that the job waits for something missing. Fail the job if the start timeout has expired."""
        since = self.status.waiting_since or self.now
        if self._may_wait(since, reason, message, timeout_seconds):
            self.reason = reason
            self.set(phase=phase, message=cut(message), waiting_since=since)

    def expect(self, phase: Phase, message: str, since: datetime, timeout_seconds: int) -> None:
        """Enter a phase whose pod should start soon. The wait for the pod is not shown, but it can time
        out."""
        if self._may_wait(since, Reason.POD_NOT_STARTED, f"no pod: {message}", timeout_seconds):
            self.enter(phase, message)

    def _may_wait(self, since: datetime, reason: Reason, message: str, timeout_seconds: int) -> bool:
        """Return whether a wait since ``since`` is within its timeout. If not, fail the job."""
        failure = start_timeout(since, self.agenda, reason, message, timeout_seconds)
        if failure:
            hint = (
                "Provide what is missing, then delete the job and create it again. "
                "If the wait may be longer, raise startTimeoutSeconds."
            )
            self.fail(failure.model_copy(update={"hint": hint}))
        return failure is None


def _starts(action: Action) -> bool:
    return isinstance(action, Create) and action.obj["kind"] != "ConfigMap"


@dataclass
class Run:
    """What the functions of one decision share: the observed state, which they read, and the draft of the
    status and other fields, which they change."""

    observed: ObservedJob
    draft: Draft
    pods: PodSettings
    jobs: ChildJobs = field(init=False)
    """The child Jobs, with their ledger from status."""
    results: Results = field(init=False)
    """The recorded results, to which :func:`absorb_results` adds the results in reports."""
    plan: Plan | None = None
    """The recorded plan, or the plan in the data role's report; None before either exists."""
    made_request: Request | None = None

    @property
    def request(self) -> Request:
        """The job's request. Raises LookupError before :func:`ensure_request` has read or made it."""
        if self.made_request is None:
            raise LookupError("bug in Tunegate: a decision used the job's Request before it was read or made")
        return self.made_request

    def __post_init__(self) -> None:
        self.results = self.observed.results
        status = self.observed.job.status
        self.jobs = ChildJobs(
            children=self.observed.children,
            refusal=self.observed.refusal,
            ledger=Ledger(
                attempts=tuple(status.attempts),
                evictions=tuple(status.evictions),
                running_seconds=status.running_seconds,
                gpu_seconds=status.gpu_seconds,
                counted_until=status.counted_until,
            ),
            agenda=self.draft.agenda,
            gpus=lambda step: gpus(self.observed.job, step.role),
            last_checkpoint=lambda step: last_step(self.results, step),
            resumable=frozenset({Role.TRAIN}),
        )


def last_step(results: Results, step: Step) -> int:
    """Return the optimizer step of a stage's last evaluated checkpoint; 0 if there is none."""
    return max((e.step for e in results.find(Subject.CHECKPOINT, step.stage)), default=0)
