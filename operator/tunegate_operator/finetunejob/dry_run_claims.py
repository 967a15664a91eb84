"""Replace a pod that waits for a volume claim that only gates in a dry run name, by one without this claim.

Pods mount the claims of all gates, and Kubernetes has no optional claims. The operator may not read claims,
so it reads in the status of the pod which claim is missing. The attempt that ends for this reason is
recorded, and the pods of later attempts do not mount such claims. The trainer then warns that it cannot read
them.
"""

import re
from datetime import timedelta

from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.attempts import StepState, Waiting, end_attempt
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.finetunejob.inputs import DRY_RUN_WAIT
from tunegate_operator.finetunejob.volumes import dry_run_claims
from tunegate_operator.names import Step

_NOT_FOUND = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
"""Matches the message of the scheduler about a claim that does not exist."""


def are_left_out(run: Run) -> bool:
    """Return whether new pods do not mount claims that only gates in a dry run name."""
    return any(attempt.result == Reason.VOLUME_NOT_READY for attempt in run.jobs.ledger.attempts)


def end_without_claim(run: Run, step: Step, state: StepState) -> None:
    """End the attempt of a step if its pod has waited for minutes, or for half of the start timeout, for a
    claim that only gates in a dry run name. The next attempt starts without such claims."""
    child = run.jobs.latest(step)
    if not isinstance(state, Waiting) or state.reason is not Reason.VOLUME_NOT_READY or child is None:
        return
    # Not by an Event, which others can forge.
    missing = {claim for pod in child.pods for claim in _NOT_FOUND.findall(pod.unschedulable)}
    if not missing & dry_run_claims(run.observed.job.spec, run.request, step.role):
        return
    timeout = timedelta(seconds=run.observed.job.spec.start_timeout_seconds)
    until = child.created + min(DRY_RUN_WAIT, timeout / 2)
    if run.draft.now < until:
        run.draft.agenda.look_again_at(until)
    else:
        end_attempt(run.jobs, child, Reason.VOLUME_NOT_READY)
        run.draft.set(waiting_since=None)  # the next attempt has a start timeout of its own
