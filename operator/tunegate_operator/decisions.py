"""Read what a person decided about a job that waits: to continue, discard or resume it, or about its final
verdict."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import write_json
from tunegate_operator.engine.prune import MAX_ANNOTATION, is_kept
from tunegate_operator.names import (
    APPROVE_ANNOTATION,
    CONTINUE_ANNOTATION,
    DISCARD_ANNOTATION,
    OVERRIDE_ANNOTATION,
    REJECT_ANNOTATION,
)

PAST = {"approve": "approved", "override": "overridden", "reject": "rejected"}
"""The participle of each decision about the final verdict, for messages."""
_VERDICT_KEYS = {"verdict", "by", "reason"}


class ReasonTooLongError(ValueError):
    """The annotation with a decision would be so long that the operator does not read it."""


@dataclass(frozen=True)
class VerdictAnnotation:
    """A person's decision about the final verdict, as an annotation has it."""

    action: Literal["approve", "override", "reject"]
    verdict: str
    """Digest of the verdict."""
    by: str
    reason: str


def is_at_rest(job: Object) -> bool:
    """Return whether a FineTuneJob has ended, or waits for a person who has not decided yet.

    False from the time at which the person has decided until the operator acts on it, although the phase is
    still Stopped or Suspended. True if another version of the operator wrote an unknown phase, because its
    meaning is unknown.
    """
    status = job.get("status") or {}
    try:
        phase = Phase(status.get("phase") or Phase.PENDING)
    except ValueError:
        return True
    if phase is Phase.SUSPENDED:
        return bool(job["spec"].get("suspend"))
    if phase is Phase.STOPPED:
        annotations = job["metadata"].get("annotations") or {}
        return decision_about((status.get("stop") or {}).get("id", ""), annotations) is None
    if phase is Phase.AWAITING_APPROVAL:
        return not _has_verdict_decision(job)
    return phase.is_at_rest


def decision_about(stop: str, annotations: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the action and the reason of the annotation that names the stop with this id; None if there is
    none. An annotation without a reason is ignored."""
    for action, annotation in (("discard", DISCARD_ANNOTATION), ("continue", CONTINUE_ANNOTATION)):
        parsed = parse_decision(annotations.get(annotation, ""))
        if parsed is not None and parsed.get("stop") == stop:
            reason = str(parsed.get("reason") or "").strip()
            if reason:
                return action, reason
    return None


def stop_decision(stop: str, reason: str) -> str:
    """Return the annotation with a decision about the stop with this id. Raises ReasonTooLongError."""
    return _written({"stop": stop, "reason": reason})


def size_problem(name: str, text: str, form: str) -> str | None:
    """Return why an annotation, which must have this form, cannot be read; None if it can. The cache has an
    empty text for one that is too long."""
    if text and is_kept(text):
        return None
    return (
        f"annotation {name} is empty, or longer than {MAX_ANNOTATION} bytes as JSON: write {form}, with a "
        "shorter reason"
    )


def parse_decision(text: str) -> dict[str, object] | None:
    """Parse the value of an annotation; None if the value is not a JSON object, or longer than the operator
    reads."""
    if not is_kept(text):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def verdict_actions(verdict: str) -> tuple[str, str]:
    """Return the decisions that apply to a final verdict."""
    return ("approve" if verdict == VerdictState.PASSED else "override", "reject")


def decided_text(decision: PersonDecision) -> str:
    """Return what a person decided about the final verdict, who it was, and why."""
    return f"{PAST[decision.action]} by {decision.by}: {decision.reason}"


def verdict_annotations(
    verdict: str, digest: str | None, annotations: Mapping[str, str]
) -> Sequence[VerdictAnnotation | str]:
    """Return the decisions in the annotations that apply to a final verdict, and why other annotations for
    such a verdict have no effect. A rejection comes first.

    A decision names the verdict, the person and a reason: ``{"verdict": "<digest>", "by": "<user name>",
    "reason": "…"}``. On a cluster, an admission policy checks that the person has the permission, and that
    ``by`` is the person's user name. So no other keys are allowed: of two keys with the same name, the policy
    and the operator could read different ones.
    """
    found: list[VerdictAnnotation | str] = []
    if REJECT_ANNOTATION in annotations:
        found.append(_verdict_annotation("reject", REJECT_ANNOTATION, annotations, digest))
    if verdict == VerdictState.PASSED and APPROVE_ANNOTATION in annotations:
        found.append(_verdict_annotation("approve", APPROVE_ANNOTATION, annotations, digest))
    if verdict != VerdictState.PASSED and OVERRIDE_ANNOTATION in annotations:
        found.append(_verdict_annotation("override", OVERRIDE_ANNOTATION, annotations, digest))
    return found


def verdict_decision(digest: str, by: str, reason: str) -> str:
    """Return the annotation with a decision about the final verdict. Raises ReasonTooLongError."""
    return _written({"verdict": digest, "by": by, "reason": reason})


def _written(decision: Mapping[str, str]) -> str:
    """Return a decision as an annotation. The admission policy looks for the name as it is, so only quotes,
    backslashes and control characters are escaped. Raises ReasonTooLongError."""
    text = json.dumps(decision, ensure_ascii=False)
    if not is_kept(text):
        raise ReasonTooLongError(
            f"the reason is too long: the annotation with the decision may have at most {MAX_ANNOTATION} "
            f"bytes as JSON, and would have {len(write_json(text))}"
        )
    return text


def _verdict_annotation(
    action: Literal["approve", "override", "reject"],
    name: str,
    annotations: Mapping[str, str],
    digest: str | None,
) -> VerdictAnnotation | str:
    form = f'{{"verdict": "{digest}", "by": "<your user name>", "reason": "…"}}'
    problem = size_problem(name, annotations[name], form)
    if problem:
        return problem
    try:
        pairs = json.loads(annotations[name], object_pairs_hook=tuple)  # a dict would hide repeated keys
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, tuple):  # not a JSON object
        pairs = ()
    fields = dict(pairs)
    is_plain = all(isinstance(value, str) for value in fields.values())
    if len(fields) != len(pairs) or fields.keys() != _VERDICT_KEYS or not is_plain:
        return f"annotation {name} must be {form}, with these keys only"
    if not fields["by"].strip() or len(fields["by"]) > MAX_MESSAGE:
        return f"annotation {name} must name the person in `by`, with at most {MAX_MESSAGE} characters"
    if not fields["reason"].strip():
        return f"annotation {name} gives no reason"
    if fields["verdict"] != digest:
        return f"annotation {name} names verdict {fields['verdict']}, but the verdict is {digest}"
    return VerdictAnnotation(action, fields["verdict"], fields["by"], fields["reason"].strip())


def _has_verdict_decision(job: Object) -> bool:
    """Whether an annotation has a decision about the final verdict of a job."""
    final = job["status"].get("final") or {}
    annotations = job["metadata"].get("annotations") or {}
    found = verdict_annotations(final.get("verdict", ""), final.get("verdictDigest"), annotations)
    return any(isinstance(one, VerdictAnnotation) for one in found)
