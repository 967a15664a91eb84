"""Decide about a FineTuneJob, with one pure function: :func:`decide`.

The steps of a job are data, each training stage, the gate, and publishing. The first step that is not
finished determines the decision. After the data step, a job with ``data.quality`` waits for a review. After
the final gate, a job may wait for a person's decision about the verdict.
"""

from datetime import datetime, timedelta

from tunegate_api.contract.plan import Plan, StagePlan
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.judging.approval import may_publish
from tunegate_api.judging.judgement import judge_final
from tunegate_api.judging.prospects import no_checkpoint_can_pass
from tunegate_api.judging.selection import evaluated_checkpoints, selection_text
from tunegate_api.judging.stages import accepted_step, assess_stage
from tunegate_api.meta import cut
from tunegate_api.v1alpha2.evaluation_status import GateResult
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_api.verdict.stop_rule import StopAction
from tunegate_operator.children.attempts import count_ended_pods, record_finished, stop_all
from tunegate_operator.children.child_jobs import SUSPENDED
from tunegate_operator.children.job import PodSettings
from tunegate_operator.children.observed import Child
from tunegate_operator.decisions import PAST, decided_text
from tunegate_operator.engine.controller import Agenda, Delete, Refusal
from tunegate_operator.finetunejob.absorb import (
    absorb_baselines,
    absorb_data_checks,
    absorb_plan,
    absorb_published,
    absorb_results,
    find_regression,
    show_progress,
)
from tunegate_operator.finetunejob.approval import can_decide, ensure_decided, verdict_text
from tunegate_operator.finetunejob.checkpoints import best_step
from tunegate_operator.finetunejob.columns import NOT_ENFORCED
from tunegate_operator.finetunejob.cost import show_cost
from tunegate_operator.finetunejob.deadlines import enforce_deadline
from tunegate_operator.finetunejob.draft import Draft, Run, last_step
from tunegate_operator.finetunejob.inputs import ensure_request
from tunegate_operator.finetunejob.judge import final_status, lacks_error_rate, measured_error_rates
from tunegate_operator.finetunejob.last_report import await_report, has_last_report
from tunegate_operator.finetunejob.observe import ObservedJob
from tunegate_operator.finetunejob.review import absorb_review, ensure_reviewed
from tunegate_operator.finetunejob.selected import ANOTHER_GATE, select_checkpoint, truncation_hint
from tunegate_operator.finetunejob.steps import delete_ended, ensure_completed, start_next_attempt
from tunegate_operator.finetunejob.stops import (
    enter_stopped,
    is_continued,
    make_stop,
    record_decision,
)
from tunegate_operator.finetunejob.tracking import record_trackers_behind
from tunegate_operator.names import Step

_COMPARED = "The report compares base and tuned model case by case."
RECORD_AGAIN = timedelta(seconds=10)
"""Pause before a job that would end retries to write its record, which the cluster refused."""


def decide(observed: ObservedJob, now: datetime, pods: PodSettings) -> Draft:
    """Return a draft with the next status of a job and the actions to do. The same input gives the same
    draft."""
    job = observed.job
    status = job.status.model_copy(update={"observed_generation": job.metadata.generation})
    run = Run(observed, Draft(status, Agenda(now)), pods)
    absorb_results(run)
    absorb_baselines(run)
    absorb_data_checks(run)
    if job.spec.suspend and observed.request is None:
        _enter_suspended(run, "suspended by spec.suspend; set it to false to start the job")
    elif ensure_request(run):
        _decide_with_request(run)
    return run.draft


def _decide_with_request(run: Run) -> None:
    """Decide about a job whose request is made, from its reports and the state of its pods."""
    absorb_plan(run)
    absorb_review(run)
    absorb_published(run)
    count_ended_pods(run.jobs)
    record_finished(run.jobs)
    show_progress(run)
    run.draft.regression = find_regression(run)
    show_cost(run)
    _choose_phase(run)
    run.draft.is_trained = _is_trained(run)
    if run.draft.status.failure:
        _end(run, run.draft.status.failure)
    elif run.draft.status.phase is Phase.SUCCEEDED and run.observed.refusal:
        _await_record(run, run.observed.refusal)
    _save_ledger(run)
    if run.draft.status.phase and run.draft.status.phase.is_final:
        record_trackers_behind(run)


def _save_ledger(run: Run) -> None:
    """Write the ledger (attempts, evictions and running times of the child Jobs) to status."""
    ledger = run.jobs.ledger
    run.draft.set(
        attempts=list(ledger.attempts),
        evictions=list(ledger.evictions),
        running_seconds=ledger.running_seconds,
        gpu_seconds=ledger.gpu_seconds,
        counted_until=ledger.counted_until,
    )


def _end(run: Run, failure: Failure) -> None:
    """Delete all child Jobs of a job that failed. The job keeps its phase until all child Jobs are being
    deleted, and until its results are recorded or the cluster refuses to record them permanently."""
    draft, before, refusal = run.draft, run.observed.job.status, run.observed.refusal
    unrecorded = refusal if refusal and refusal.kind == "ConfigMap" else None
    if unrecorded and not _may_succeed_later(unrecorded, failure):
        draft.agenda.actions = [action for action in draft.agenda.actions if isinstance(action, Delete)]
        unrecorded = None
    all_asked = stop_all(run.jobs, failure.reason)
    draft.agenda.actions.sort(
        key=lambda action: not isinstance(action, Delete)
    )  # no deletion waits for a record
    if unrecorded:
        _await_record(run, unrecorded)
    elif not all_asked:
        draft.set(phase=before.phase, completion_time=before.completion_time)


def _await_record(run: Run, refusal: Refusal) -> None:
    """Keep the phase of a job that would end, and show why the cluster refused to record its results."""
    draft, before = run.draft, run.observed.job.status
    draft.reason = Reason.PROGRESSING
    draft.set(
        message=cut(f"{draft.status.message}; not recorded yet: {refusal.message}"),
        phase=before.phase,
        completion_time=before.completion_time,
    )
    draft.agenda.look_again_at(draft.now + RECORD_AGAIN)


def _may_succeed_later(refusal: Refusal, failure: Failure) -> bool:
    """Whether a record that the cluster refused may be accepted later. If so, the job does not end before."""
    return refusal.cause == "Unavailable" and failure.reason != Reason.START_TIMEOUT


def _choose_phase(run: Run) -> None:
    """Fail, suspend or advance a job whose request is made."""
    draft, refusal = run.draft, run.observed.refusal
    if draft.status.failure:
        draft.fail(draft.status.failure)
    elif refusal and refusal.cause == "Invalid":
        draft.fail(
            Failure(
                reason=Reason.REFUSED,
                message=f"the cluster refused a {refusal.kind} of this FineTuneJob: {refusal.message}",
                hint="Change what the message names, and create the job again.",
            )
        )
    elif record_decision(run):
        return
    elif run.observed.job.spec.suspend:
        _suspend(run)
    elif not delete_ended(run):
        _advance(run)
        enforce_deadline(run)


def _suspend(run: Run) -> None:
    """Stop all pods. Training pods save a checkpoint, from which the next attempt resumes. A job that a gate
    stopped stays in the phase Stopped, because it waits for a person."""
    stop_all(run.jobs, SUSPENDED)
    stop = run.draft.status.stop
    if stop:
        enter_stopped(run, stop)
    else:
        _enter_suspended(run, "suspended by spec.suspend; set it to false to resume from the last checkpoint")


def _enter_suspended(run: Run, message: str) -> None:
    """Enter the phase Suspended, in which neither ``activeDeadlineSeconds`` nor ``startTimeoutSeconds``
    counts."""
    run.draft.enter(Phase.SUSPENDED, message, Reason.SUSPENDED)


def _advance(run: Run) -> None:
    """Skip the finished steps of the job, and advance the first unfinished step."""
    plan = run.plan
    if not ensure_completed(run, Step(Role.DATA), is_known=plan is not None):
        return
    if plan is None:
        await_report(run, Step(Role.DATA))
        return
    if not ensure_reviewed(run, plan):
        return
    best_step = 0
    for stage in plan.stages:
        found = _ensure_trained(run, plan, stage.name, best_step)
        if found is None:
            return
        best_step = found
    last = plan.stages[-1].name
    if not _ensure_gate_passed(run, last, best_step) or not _ensure_published(run):
        return
    run.draft.enter(Phase.SUCCEEDED, _success(run), Reason.SUCCEEDED)
    run.draft.end(Phase.SUCCEEDED)


def _ensure_trained(run: Run, plan: Plan, stage: str, start_step: int) -> int | None:
    """Return the optimizer step of a stage's selected checkpoint; None if the stage is still training, was
    stopped, or failed.

    ``start_step`` is the step of the previous stage's checkpoint that this stage starts from; 0 for the first
    stage.
    """
    step, draft = Step(Role.TRAIN, stage), run.draft
    decisions = draft.status.decisions
    accepted = accepted_step(decisions, stage)
    args: tuple[str, ...] = ("--start-step", str(start_step)) if start_step else ()
    args += ("--accepted-step", str(accepted)) if accepted else ()
    if not ensure_completed(run, step, args, is_known=True):
        return None
    number = run.jobs.latest_number(step)
    if is_continued(decisions, run.observed.job.metadata.uid, stage, number, accepted):
        start_next_attempt(run, step, args)
        return None

    found = assess_stage(run.request, run.results, stage, accepted)
    if found and found.assessment.action is StopAction.STOP:
        stop = draft.status.stop or make_stop(run, found, plan.stage(stage), number)
        draft.set(stop=stop)
        enter_stopped(run, stop)
        return None
    if _has_all_steps(run, plan.stage(stage)):
        return select_checkpoint(run, stage)
    reached, total = last_step(run.results, step), plan.stage(stage).total_steps
    if _is_hopeless(run, stage, reached):
        return None
    if not has_last_report(run, step):
        await_report(run, step)
        return None
    draft.fail(
        Failure(
            reason=Reason.GATE_ERROR,
            message=f"the trainer ended stage {stage} at step {reached} of {total}, "
            "but its case results give no reason to stop",
            hint="Do not trust this run: its pod may have been tampered with.",
        )
    )
    return None


def _has_all_steps(run: Run, stage: StagePlan) -> bool:
    """Return whether a stage that completed was trained to its last step and not stopped."""
    step = Step(Role.TRAIN, stage.name)
    latest = run.jobs.latest(step)
    was_stopped = latest is not None and _outcome(latest) is Outcome.STOPPED
    return last_step(run.results, step) >= stage.total_steps and not was_stopped


def _is_trained(run: Run) -> bool:
    """Return whether every training stage ended with a checkpoint that passed. A stage starts only after
    the previous one, so the last stage shows it."""
    last = run.plan.stages[-1] if run.plan else None
    return (
        last is not None
        and run.jobs.has_succeeded(Step(Role.TRAIN, last.name))
        and _has_all_steps(run, last)
        and run.draft.status.stop is None
        and best_step(run.request, run.results, last.name) is not None
    )


def _is_hopeless(run: Run, stage: str, reached: int) -> bool:
    """Fail a job if no checkpoint of a stage, which was trained up to the step ``reached``, can pass. Return
    whether it failed."""
    trained = f" after step {reached}" if reached else ""
    problem = no_checkpoint_can_pass(run.request, run.results, stage)
    if problem:
        run.draft.fail(
            Failure(
                reason=Reason.NO_CHECKPOINT_CAN_PASS,
                message=f"stage {stage} was not trained{trained}: {problem}",
                hint=ANOTHER_GATE,
            )
        )
    return bool(problem)


def _ensure_gate_passed(run: Run, stage: str, best_step: int) -> bool:
    """Advance the gate step. Return whether the artifact of the best checkpoint may be published: it passed
    and was approved if necessary, or a person overrode its verdict."""
    step, draft = Step(Role.GATE), run.draft
    final = final_status(run.request, run.results)
    args = ("--stage", stage, "--step", str(best_step))
    if not ensure_completed(run, step, args, is_known=final is not None):
        return False
    if final is None or _is_error_rate_expected(run, step):
        await_report(run, step)
        return False
    draft.set(final=final, error_rates=measured_error_rates(run.request, run.results))
    decision = draft.status.verdict_decision
    if may_publish(run.request, final.verdict, final.verdict_digest, decision):
        return True
    if can_decide(run, final):
        return ensure_decided(run, final)
    reasons = {
        VerdictState.PASSED: Reason.GATE_ERROR,  # the results were changed after the approval
        VerdictState.FAILED: Reason.GATE_FAILED,
        VerdictState.ERROR: Reason.GATE_ERROR,
        VerdictState.INCONCLUSIVE: Reason.GATE_INCONCLUSIVE,
    }
    changed = f". The verdict changed after a person had {PAST[decision.action]} it" if decision else ""
    draft.fail(
        Failure(
            reason=reasons[final.verdict],
            message=verdict_text(final) + changed,
            hint=f"{_published_text(run)} {truncation_hint(final.gates) or _COMPARED}",
        )
    )
    return False


def _is_error_rate_expected(run: Run, step: Step) -> bool:
    """Return whether a gate with `minDetection` waits for its error rate, which the last report of the gate
    role has. An earlier report has the evaluation of the artifact."""
    return not has_last_report(run, step) and lacks_error_rate(run.request, run.results)


def _published_text(run: Run) -> str:
    """Return a sentence that names the targets to which the artifact of a failed final gate was published.

    Usually there is none. But an artifact that passed may fail later: after it was published to the first
    target, another job may publish a better model to the next target. The artifact is then compared with the
    better model, and fails.
    """
    published = ", ".join(p.uri for p in run.draft.status.published)
    return f"Published only to {published}." if published else "Nothing was published."


def _ensure_published(run: Run) -> bool:
    """Advance the publish step. Return whether the artifact is at every publish URI: True if the spec has no
    publish URI."""
    step, final = Step(Role.PUBLISH), run.draft.status.final
    if not run.observed.job.spec.publish or final is None:
        return True
    if not ensure_completed(run, step, ("--digest", final.model_digest), is_known=_is_fully_published(run)):
        return False
    if not _is_fully_published(run):
        await_report(run, step)
        return False
    return True


def _is_fully_published(run: Run) -> bool:
    """Whether the publish role reported the artifact at every URI."""
    return len(run.draft.status.published) >= len({t.uri for t in run.observed.job.spec.publish})


def _outcome(child: Child) -> Outcome | None:
    ended = child.decisive_pod.termination if child.decisive_pod else None
    return ended.outcome if ended else None


def _success(run: Run) -> str:
    final = run.draft.status.final
    gates = final.gates if final else []
    rates = ", ".join(f"{g.name} {g.golden.rate}" for g in gates if g.golden and not g.dry_run)
    where = ", ".join(p.uri for p in run.draft.status.published)
    decision = run.draft.status.verdict_decision
    if final and final.verdict is not VerdictState.PASSED and decision:
        verdict = f"{final.verdict} ({rates}), {decided_text(decision)}"
    else:
        passed = f"passed ({rates})" if rates else NOT_ENFORCED
        verdict = passed + (f", {decided_text(decision)}" if decision else "")
    verdict += "".join(f", dry run: {g.name} {g.verdict}{_rate(g)}" for g in gates if g.dry_run)
    judged, checkpoints = (
        judge_final(run.request, run.results),
        evaluated_checkpoints(run.request, run.results),
    )
    selected = selection_text(checkpoints, run.request, judged) if judged else ""
    return verdict + (f", published to {where}" if where else "") + (f"; {selected}" if selected else "")


def _rate(gate: GateResult) -> str:
    return f" {gate.golden.rate}" if gate.golden else ""
