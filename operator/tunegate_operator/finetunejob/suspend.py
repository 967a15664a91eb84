"""A suspended job has no pods: they save and go, and the next attempts go on from there."""

from tunegate_api.v1alpha1.finetunejob_status import Phase, Reason
from tunegate_operator.children.attempts import stop_all
from tunegate_operator.children.child_jobs import SUSPENDED
from tunegate_operator.finetunejob.draft import Draft
from tunegate_operator.finetunejob.run import Run
from tunegate_operator.finetunejob.stops import be_stopped


def suspend(run: Run) -> None:
    """Let go of everything that runs. A job that a gate stopped stays Stopped: it waits for a person."""
    stop_all(run.jobs, SUSPENDED)
    stop = run.draft.status.stop
    if stop:
        be_stopped(run, stop)
    else:
        be_suspended(run.draft, "suspended by spec.suspend; false goes on from the last checkpoint")


def be_suspended(draft: Draft, message: str = "suspended by spec.suspend; false starts it") -> None:
    """Be in the phase Suspended. Neither of the two deadlines runs meanwhile."""
    draft.enter(Phase.SUSPENDED, message, Reason.SUSPENDED)
