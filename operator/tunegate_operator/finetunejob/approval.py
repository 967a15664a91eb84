"""Wait until a person decides about the final verdict, and record the decision."""

from collections.abc import Sequence

from tunegate_api.contract.process import Role
from tunegate_api.judging.approval import approving_gates, may_override
from tunegate_api.v1alpha2.evaluation_status import FinalStatus, PersonDecision
from tunegate_api.v1alpha2.finetunejob_status import MAX_DECISIONS, Failure
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.decisions import (
    VerdictAnnotation,
    decided_text,
    verdict_actions,
    verdict_annotations,
)
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.names import APPROVE_ANNOTATION, OVERRIDE_ANNOTATION, Step


def can_decide(run: Run, final: FinalStatus) -> bool:
    """Return whether a person may decide about the final verdict: not if somebody has decided.

    After publishing has started, a job does not wait for an override. An override of exactly this verdict
    that is there already still counts, because its record may have been lost with the status.
    """
    if run.draft.status.verdict_decision is not None:
        return False
    if final.verdict is VerdictState.PASSED:
        return bool(approving_gates(run.request))
    if not may_override(run.request, final.verdict):
        return False
    is_publishing = run.jobs.latest_number(Step(Role.PUBLISH)) > 0
    return not is_publishing or any(
        isinstance(one, VerdictAnnotation) and one.action == "override" for one in _annotations(run, final)
    )


def ensure_decided(run: Run, final: FinalStatus) -> bool:
    """Record a person's decision about the final verdict, or show that the job waits for it. Return whether
    the job may go to the next step in this reconciliation.

    Publishing starts only with the next reconciliation, when the decision is in status. So a crash cannot
    lose a decision that took effect, or give it another time.
    """
    draft, found = run.draft, _annotations(run, final)
    decided = next((one for one in found if isinstance(one, VerdictAnnotation)), None)
    if decided:
        return _record(run, final, decided)
    problems = [one for one in found if isinstance(one, str)] + _inapplicable(run, final)
    message = ". ".join([*problems[:1], _waiting_message(run, final)])
    passed = final.verdict is VerdictState.PASSED
    reason = Reason.AWAITING_APPROVAL if passed else Reason.AWAITING_OVERRIDE
    draft.enter(Phase.AWAITING_APPROVAL, message, reason)
    return False


def verdict_text(final: FinalStatus) -> str:
    """Return the messages of the enforced gates and of the task metrics with the verdict of the artifact."""
    enforced = [g for g in final.gates if not g.dry_run]
    messages = [f"{g.name}: {g.message}" for g in enforced if g.verdict is final.verdict]
    messages += [final.task_message] if final.task_verdict is final.verdict else []
    return "; ".join(messages)


def _annotations(run: Run, final: FinalStatus) -> Sequence[VerdictAnnotation | str]:
    annotations = run.observed.job.metadata.annotations
    return verdict_annotations(final.verdict, final.verdict_digest, annotations)


def _record(run: Run, final: FinalStatus, found: VerdictAnnotation) -> bool:
    draft = run.draft
    decision = PersonDecision(
        action=found.action, about=found.verdict, by=found.by, reason=found.reason, time=draft.now
    )
    draft.set(decisions=[*draft.status.decisions, decision][-MAX_DECISIONS:])
    if decision.action == "reject":
        draft.fail(
            Failure(
                reason=Reason.REJECTED,
                message=f"{decided_text(decision)}. The verdict was {final.verdict}: {verdict_text(final)}",
                hint="Nothing was published. Change rows or parameters, and create the job again.",
            )
        )
        return False
    if not run.observed.job.spec.publish:
        return True
    draft.enter(Phase.PUBLISHING, decided_text(decision))
    draft.agenda.look_again_at(draft.now)
    return False


def _inapplicable(run: Run, final: FinalStatus) -> list[str]:
    """Return why an annotation for another verdict than this one has no effect."""
    passed = final.verdict is VerdictState.PASSED
    wrong, right = (OVERRIDE_ANNOTATION if passed else APPROVE_ANNOTATION), verdict_actions(final.verdict)[0]
    if wrong not in run.observed.job.metadata.annotations:
        return []
    return [f"annotation {wrong} does not apply, because the verdict is {final.verdict}: {right} it instead"]


def _waiting_message(run: Run, final: FinalStatus) -> str:
    meta = run.observed.job.metadata
    arguments = f'{run.pods.command_arguments(meta.name, meta.namespace)} --reason "…"'
    if final.verdict is VerdictState.PASSED:
        gates = ", ".join(approving_gates(run.request))
        return (
            f"the final model passed, and {gates} requires an approval: tunegate approve|reject {arguments}"
        )
    command = f"tunegate override|reject {arguments}"
    return f"the verdict is {final.verdict}, and a person may override it: {command}. {verdict_text(final)}"
