"""A step completed, but its last report is not here: wait, then start a small pod that sends the outbox.

A pod waits itself until its report is acknowledged, and what it could not deliver the job's next pod sends.
Here no next pod would come.
"""

from datetime import datetime, timedelta

from tunegate_api.contract import Role
from tunegate_api.v1alpha1.finetunejob_status import Failure, Reason
from tunegate_operator.finetunejob import attempts
from tunegate_operator.finetunejob.build import Step
from tunegate_operator.finetunejob.failures import classify
from tunegate_operator.finetunejob.observe import Child, ChildState
from tunegate_operator.finetunejob.run import Run
from tunegate_operator.finetunejob.waiting import end_is_due

FILE_SECONDS = 120
"""How long a report may take that is only a file, as on a laptop."""
POST_SECONDS = 30
"""How long one may take that is posted, before and after a pod was sent for it."""
MESSENGER = Step(Role.REPORT)


def await_report(run: Run, step: Step) -> None:
    """Work on the last report of ``step``, whose latest child completed. Ends the job if there is none."""
    since = attempts.finished(run, step) or run.draft.now
    if run.pods.report_to is None:
        _wait_or_fail(run, step, since + timedelta(seconds=FILE_SECONDS), f"within {FILE_SECONDS} s")
        return
    if run.draft.now < since + timedelta(seconds=POST_SECONDS):
        _wait_until(run, step, since + timedelta(seconds=POST_SECONDS))
        return
    run.draft.set(phase=attempts.PHASES[step.role])  # whatever it was meanwhile, say, suspended
    messenger = _messenger(run, since)
    if messenger is None:
        attempts.start(run, MESSENGER)
    elif messenger.state is ChildState.ACTIVE:
        attempts.watch(run, messenger)
    elif end_is_due(messenger, run.draft):
        return
    elif messenger.state is ChildState.FAILED:
        _fail(run, step, f"though a pod was sent for it: {classify(messenger).message}")
    else:
        sent = messenger.finished or run.draft.now
        _wait_or_fail(run, step, sent + timedelta(seconds=POST_SECONDS), "though a pod was sent for it")


def _messenger(run: Run, since: datetime) -> Child | None:
    """The latest child that was sent after ``since``; earlier ones went for another step's report."""
    sent = [c for c in run.observed.attempts_of(MESSENGER) if c.finished is None or c.finished > since]
    return sent[-1] if sent else None


def _wait_or_fail(run: Run, step: Step, until: datetime, why: str) -> None:
    if run.draft.now < until:
        _wait_until(run, step, until)
    else:
        _fail(run, step, why)


def _wait_until(run: Run, step: Step, until: datetime) -> None:
    run.draft.enter(attempts.PHASES[step.role], f"{step} completed; waiting for its last report")
    run.draft.look_again_at(until)


def _fail(run: Run, step: Step, why: str) -> None:
    run.draft.fail(
        Failure(
            reason=Reason.REPORT_MISSING,
            message=f"{step} completed, but its last report did not arrive {why}",
            hint="The results are on the volume. Check that pods reach the operator's report address.",
        )
    )
