"""What the policies of a job that has its request decide from."""

from dataclasses import dataclass, field

from tunegate_api.contract import Request, Results, Role, Subject
from tunegate_api.plan import Plan
from tunegate_operator.children.child_jobs import ChildJobs, Ledger
from tunegate_operator.children.job import PodSettings
from tunegate_operator.finetunejob.build import gpus
from tunegate_operator.finetunejob.draft import Draft
from tunegate_operator.finetunejob.observe import Observed
from tunegate_operator.names import Step


@dataclass
class Run:
    """One decision's input, and the draft that policies write to."""

    observed: Observed
    draft: Draft
    request: Request
    plan: Plan | None
    results: Results
    pods: PodSettings
    jobs: ChildJobs = field(init=False)
    """The child Jobs, and what the status remembers of them."""

    def __post_init__(self) -> None:
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
    """The step of a stage's last evaluated checkpoint; 0 when there is none."""
    return max((e.step for e in results.find(Subject.CHECKPOINT, step.stage)), default=0)
