"""Read what a person decided about a job that waits: to continue, discard or resume it."""

import json
from collections.abc import Mapping

from tunegate_api.v1alpha1.finetunejob_status import Phase
from tunegate_operator.engine.cluster import Object
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION


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


def parse_decision(text: str) -> dict[str, object] | None:
    """Parse the value of an annotation; None if the value is not a JSON object."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
