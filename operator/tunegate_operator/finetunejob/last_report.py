"""Wait for the last report of a completed step. If it does not arrive, start a small pod that sends the
reports in the outbox.

A pod waits until its report is acknowledged. If this takes too long, the pod ends, and the job's next pod
sends the report. But the next step cannot start without the last report of the completed step, so a pod of
role ``report`` sends it.
"""

from datetime import datetime, timedelta

from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.failures import classify
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.children.waiting import must_await_pods
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.finetunejob.steps import PHASES, start_next_attempt, watch
from tunegate_operator.names import Step

FILE_SECONDS = 120
"""Seconds to wait for the last report where reports are files, as on a laptop."""
POST_SECONDS = 30
"""Seconds to wait for the last report where reports are posted: first before the report pod is started, and
again after the report pod completed."""
REPORT_SENDER = Step(Role.REPORT)


def has_last_report(run: Run, step: Step) -> bool:
    """Return whether the last report of the latest attempt of ``step`` has arrived.

    A new operator does not get a report that was acknowledged before it started. It knows that the report has
    arrived if the attempt wrote it, and a report pod has completed since: then every report in the outbox is
    acknowledged. The termination message alone is not enough, because a pod writes it before it sends the
    report.
    """
    report, latest, since = run.observed.report_of(step), run.jobs.latest(step), run.jobs.finished(step)
    if report and report.attempt == run.jobs.latest_number(step) and report.outcome:
        return True
    sender = _report_sender(run, since) if since else None
    if sender is None or sender.state is not ChildState.COMPLETE or latest is None:
        return False
    pods = latest.pods if latest.nodes > 1 else latest.pods[-1:]
    return any(end.report_sha256 is not None for pod in pods if (end := pod.termination))


def await_report(run: Run, step: Step) -> None:
    """Wait for the last report of ``step``, which completed. Fail the job if the report does not arrive."""
    since = run.jobs.finished(step) or run.draft.now
    if run.pods.report_to is None:
        _wait_or_fail(run, step, since + timedelta(seconds=FILE_SECONDS), f"within {FILE_SECONDS} s")
        return
    if run.draft.now < since + timedelta(seconds=POST_SECONDS):
        _wait_until(run, step, since + timedelta(seconds=POST_SECONDS))
        return
    run.draft.set(phase=PHASES[step.role])  # the job may have been suspended meanwhile
    sender = _report_sender(run, since)
    if sender is None:
        start_next_attempt(run, REPORT_SENDER)
    elif sender.state is ChildState.ACTIVE:
        watch(run, sender)
    elif must_await_pods(sender, run.draft.agenda):
        return
    elif sender.state is ChildState.FAILED:
        _fail(run, step, f"although a pod was started to send it: {classify(sender).message}")
    else:
        sent = sender.finished or run.draft.now
        _wait_or_fail(
            run, step, sent + timedelta(seconds=POST_SECONDS), "although a pod was started to send it"
        )


def _report_sender(run: Run, since: datetime) -> Child | None:
    """Return the latest report Job that is active or ended after ``since``; None if there is none. Report
    Jobs that ended before ``since`` sent reports of earlier steps."""
    sent = [c for c in run.observed.attempts_of(REPORT_SENDER) if c.finished is None or c.finished > since]
    return sent[-1] if sent else None


def _wait_or_fail(run: Run, step: Step, until: datetime, why: str) -> None:
    if run.draft.now < until:
        _wait_until(run, step, until)
    else:
        _fail(run, step, why)


def _wait_until(run: Run, step: Step, until: datetime) -> None:
    run.draft.enter(PHASES[step.role], f"{step} completed; waiting for its last report")
    run.draft.agenda.look_again_at(until)


def _fail(run: Run, step: Step, why: str) -> None:
    run.draft.fail(
        Failure(
            reason=Reason.REPORT_MISSING,
            message=f"{step} completed, but its last report did not arrive {why}",
            hint="The results are on the volume. Check that pods can reach the operator's report address.",
        )
    )
