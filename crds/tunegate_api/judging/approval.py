"""Whether a person must decide about the final verdict of a job, and what the decision allows.

The operator asks for the decision and records it in status. The publish role gets it in an environment
variable of its Job, which nobody can change, and checks it again.
"""

import json

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import Request
from tunegate_api.judging.judgement import Judgement
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.verdict.outcomes import VerdictState, threshold_text

DECISION_VARIABLE = "TUNEGATE_VERDICT_DECISION"
"""Environment variable with a :class:`PersonDecision` as JSON. Not set without a decision."""


def read_decision(text: str | None) -> PersonDecision | None:
    """Parse the value of :data:`DECISION_VARIABLE`; None if it is not set."""
    return PersonDecision.model_validate_json(text) if text else None


def verdict_digest(judged: Judgement) -> Sha256:
    """Return the digest of the verdict on an artifact: the SHA-256 of JSON with sorted keys.

    It covers the artifact, the golden and safety sets, all outcomes, the verdict, and the rules that are not
    met. The outcomes of a gate's baselines are only covered if the gate did not pass: a model that passes in
    comparison with a new baseline too has the same verdict, but a model that is worse than another baseline
    has a new one, even if both baselines passed the same number of cases.
    """
    evaluation = judged.evaluation
    missed = [gate for gate in judged.enforced if gate.verdict.state is not VerdictState.PASSED]
    safety = {gate.name: gate.safety for gate in judged.gates if gate.safety}
    of_safety = {
        "safety": {name: each.cases.sha256 for name, each in safety.items()},
        "safetyBase": {g.name: safety[g.name].base_outcomes for g in missed if g.name in safety},
    }
    content = {
        "artifact": evaluation.digest,
        "verdict": judged.state,
        "gates": {gate.name: gate.cases.sha256 for gate in judged.gates},
        "outcomes": evaluation.outcomes,
        "counts": evaluation.counts or {},
        "tasks": {task.name: threshold_text(task.minimum) for task in judged.tasks},
        "missed": [
            [name, finding.rule, finding.state]
            for name, finding in judged.findings
            if finding.state is not VerdictState.PASSED
        ],
        "baselines": {gate.name: gate.baseline_outcomes for gate in missed},
        **(of_safety if safety else {}),
    }
    return sha256_text(json.dumps(content, sort_keys=True, separators=(",", ":")))


def approving_gates(request: Request) -> list[str]:
    """Return the names of the gates of a job that require an approval. Gates in a dry run do not."""
    enforced = [gate for gate in request.final_gates if not gate.spec.dry_run]
    return [gate.name for gate in enforced if gate.spec.approval in ("WhenPassed", "Always")]


def may_override(request: Request, verdict: VerdictState) -> bool:
    """Return whether a person may override this verdict of a job: if it was measured, and every gate that is
    not in a dry run allows it. A job without such a gate allows no override."""
    enforced = [gate for gate in request.final_gates if not gate.spec.dry_run]
    is_measured = verdict in (VerdictState.FAILED, VerdictState.INCONCLUSIVE)
    allowing = [gate for gate in enforced if gate.spec.approval in ("WhenFailed", "Always")]
    return is_measured and bool(enforced) and allowing == enforced


def may_publish(
    request: Request, verdict: VerdictState, digest: Sha256 | None, decision: PersonDecision | None
) -> bool:
    """Return whether an artifact with this verdict may be published, and its job may succeed.

    ``digest`` is the digest of the verdict. An override of an earlier verdict also covers the case that the
    artifact now passes.
    """
    if verdict is VerdictState.PASSED:
        is_approved = decision is not None and (
            decision.action == "override" or (decision.action == "approve" and decision.about == digest)
        )
        return is_approved or not approving_gates(request)
    is_overridden = decision is not None and (decision.action, decision.about) == ("override", digest)
    return is_overridden and may_override(request, verdict)
