"""Recognize a status that differs from the last one only in its progress. It is not written at once."""

from tunegate_operator.engine.cluster import Object

PROGRESS_FIELDS = ("progress", "message", "cost")


def is_progress_only(old: Object, new: Object, *, message_is_progress: bool) -> bool:
    """Return whether two statuses differ only in their progress: in the fields of :data:`PROGRESS_FIELDS`.

    If ``message`` changed but ``progress`` did not, the message counts as progress only if
    ``message_is_progress`` is set."""
    if _without_progress(new) != _without_progress(old):
        return False
    same_message = new.get("message") == old.get("message")
    return same_message or new.get("progress") != old.get("progress") or message_is_progress


def _without_progress(status: Object) -> Object:
    """Return a status without the fields and condition messages that only show progress."""
    rest = {field: value for field, value in status.items() if field not in PROGRESS_FIELDS}
    rest["conditions"] = [
        # Ready and Reconciling repeat the status's message.
        {f: v for f, v in condition.items() if f != "message" or v != status.get("message")}
        for condition in status.get("conditions", ())
    ]
    if isinstance(rest.get("display"), dict):
        rest["display"] = {f: value for f, value in rest["display"].items() if f != "progress"}
    return rest
