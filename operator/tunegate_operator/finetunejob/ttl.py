"""What a finished job left goes when its time has come: files by a cleanup Job, then Jobs and pods.

The FineTuneJob stays, with the ConfigMaps that hold the evidence for its status: request, plan, results. A
job that a gate stopped has not finished.
"""

from datetime import timedelta

from tunegate_api.contract import Role
from tunegate_api.v1alpha1.finetunejob_status import Cleanup, Phase, Reason
from tunegate_operator.children.child_jobs import SUCCEEDED
from tunegate_operator.children.ended import has_run, is_for_good
from tunegate_operator.children.failures import classify
from tunegate_operator.children.job import PodSettings
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.children.waiting import end_is_due
from tunegate_operator.engine.controller import Create, Delete
from tunegate_operator.finetunejob.build import CHORE_SECONDS, child_job
from tunegate_operator.finetunejob.draft import Draft
from tunegate_operator.finetunejob.observe import Observed
from tunegate_operator.names import Step

CLEANUP = Step(Role.CLEANUP)
PATIENCE = timedelta(seconds=CHORE_SECONDS[Role.CLEANUP])
"""How long a cleanup Job may be refused."""
_KEPT = "report.html, evals/, gate/, tracking/, data/*.json"
"""What the cleanup role leaves in the job's folder, besides a model that passed."""


def clean_up(observed: Observed, draft: Draft, pods: PodSettings) -> None:
    """What to do about a finished job that has a TTL."""
    if draft.status.cleanup is None:
        _remove_files(observed, draft, pods)
    else:  # once status says what came of the files, or a crash here would start over
        draft.agenda.actions += [
            Delete(child.key, child.uid) for child in observed.children if not child.deleting
        ]


def _remove_files(observed: Observed, draft: Draft, pods: PodSettings) -> None:
    """See to it that the cleanup Job runs, once, and note how it ended."""
    spec, ended = observed.job.spec, draft.status.completion_time or draft.now
    due = max(ended + timedelta(seconds=spec.ttl_seconds_after_finished or 0), observed.all_left(ended))
    if draft.now < due:
        draft.agenda.look_again_at(due)
        return
    request, children = observed.request, observed.attempts_of(CLEANUP)
    if request is None or not has_run(observed.job.status.start_time, observed.job.status.attempts):
        _note(draft, SUCCEEDED, "no pod of the job ran, so it left no files")
    elif children:
        _note_end(observed, draft, children[-1])
    elif observed.refusal and is_for_good(observed.refusal, PATIENCE, draft.now):
        _note_failure(observed, draft, Reason.REFUSED, observed.refusal.message)
    else:
        final = draft.status.final
        passed = draft.status.phase is Phase.SUCCEEDED and final
        args = ("--digest", final.model_digest) if passed and final else ()
        draft.agenda.actions.append(
            Create(child_job(observed.job, request, CLEANUP, 1, pods=pods, extra_args=args))
        )


def _note_end(observed: Observed, draft: Draft, child: Child) -> None:
    if child.state is ChildState.COMPLETE:
        kept = f"{_KEPT}, model/" if draft.status.phase is Phase.SUCCEEDED else _KEPT
        _note(draft, SUCCEEDED, f"kept {kept}; removed all other files, the Jobs and their pods")
    elif child.state is ChildState.FAILED and not end_is_due(child, draft.agenda):
        failure = classify(child)
        _note_failure(observed, draft, failure.reason, failure.message)


def _note(draft: Draft, result: str, message: str) -> None:
    draft.set(cleanup=Cleanup(time=draft.now, result=result, message=message))


def _note_failure(observed: Observed, draft: Draft, reason: str, why: str) -> None:
    """What is left for a person to do, and why."""
    uid, claim = observed.job.metadata.uid, observed.job.spec.storage.persistent_volume_claim
    _note(draft, reason, f"files are left in the folder {uid} of the claim {claim}: {why}")
