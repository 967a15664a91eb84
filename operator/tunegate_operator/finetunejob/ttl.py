"""Clean up after a finished job when its TTL has expired: a cleanup Job removes files, then the operator
deletes the job's Jobs and pods.

The FineTuneJob is kept, and so are the ConfigMaps that prove its status: request, plan and results. A job
that a gate stopped has not finished, so it is not cleaned up.
"""

from datetime import timedelta

from tunegate_api.contract.process import Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.finetunejob_status import Cleanup
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children.after_end import has_run, is_final_refusal
from tunegate_operator.children.child_jobs import SUCCEEDED
from tunegate_operator.children.failures import classify
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.children.waiting import must_await_pods
from tunegate_operator.engine.controller import Create, Delete
from tunegate_operator.finetunejob.build import CHORE_SECONDS, child_job
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.names import Step

CLEANUP = Step(Role.CLEANUP)
REFUSAL_TIMEOUT = timedelta(seconds=CHORE_SECONDS[Role.CLEANUP])
"""How long a cleanup Job may be refused before the operator gives up and records that files remain."""
_KEPT = "report.html, evals/, gate/, tracking/, data/*.json"
"""Files that the cleanup role keeps in the job's folder. It also keeps a model that passed."""


def clean_up(run: Run) -> None:
    """Clean up after a finished job that has a TTL: remove its files first, then its Jobs and pods."""
    if run.draft.status.cleanup is None:
        _remove_files(run)
    else:  # status has the result of the file removal, so a crash does not repeat the removal
        run.draft.agenda.actions += [
            Delete(child.key, child.uid) for child in run.observed.children if not child.deleting
        ]


def _remove_files(run: Run) -> None:
    """Run the cleanup Job once when the TTL has expired, and record its result. If no pod ever ran, record
    that no files remain."""
    spec, ended = run.observed.job.spec, run.draft.status.completion_time or run.draft.now
    due = max(
        ended + timedelta(seconds=spec.ttl_seconds_after_finished or 0), run.observed.pods_gone_by(ended)
    )
    if run.draft.now < due:
        run.draft.agenda.look_again_at(due)
        return
    request, children = run.observed.request, run.observed.attempts_of(CLEANUP)
    if not has_run(run.observed.job.status.start_time, run.observed.job.status.attempts):
        _record(run, SUCCEEDED, "no pod of the job ran, so the job left no files")
    elif request is None:
        why = "the job's request was removed, so no cleanup Job can be created"
        _record_failure(run, Reason.NOT_FOUND, why)
    elif children:
        _record_end(run, children[-1])
    elif run.observed.refusal and is_final_refusal(run.observed.refusal, REFUSAL_TIMEOUT, run.draft.now):
        _record_failure(run, Reason.REFUSED, run.observed.refusal.message)
    else:
        final = run.draft.status.final
        passed = run.draft.status.phase is Phase.SUCCEEDED and final
        args = ("--digest", final.model_digest) if passed and final else ()
        run.draft.agenda.actions.append(
            Create(child_job(run.observed.job, request, CLEANUP, 1, pods=run.pods, extra_args=args))
        )


def _record_end(run: Run, child: Child) -> None:
    if child.state is ChildState.COMPLETE:
        kept = f"{_KEPT}, model/" if run.draft.status.phase is Phase.SUCCEEDED else _KEPT
        _record(run, SUCCEEDED, f"kept {kept}; removed all other files, the Jobs and their pods")
    elif child.state is ChildState.FAILED and not must_await_pods(child, run.draft.agenda):
        failure = classify(child)
        _record_failure(run, failure.reason, failure.message)


def _record(run: Run, result: str, message: str) -> None:
    run.draft.set(cleanup=Cleanup(time=run.draft.now, result=result, message=message))


def _record_failure(run: Run, reason: str, why: str) -> None:
    """Record in status that files remain, where they are, and why they were not removed."""
    job = run.observed.job
    _record(run, reason, files_remain(job.metadata.uid, job.spec.storage.persistent_volume_claim, why))


def files_remain(uid: str, claim: str, why: str) -> str:
    """Return a message that files of the job ``uid`` remain on a claim, and why."""
    return f"files remain in the folder {Workspace(uid).job} on the claim {claim}: {why}"
