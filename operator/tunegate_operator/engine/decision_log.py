"""Log what a controller decided about an object."""

import logging

from tunegate_operator.engine.cluster import Key
from tunegate_operator.engine.controller import (
    Action,
    AddFinalizer,
    Create,
    Decision,
    Delete,
    LookUpEvents,
    Put,
)


def log_decision(logger: logging.Logger, key: Key, decision: Decision) -> None:
    """Log the phase or conditions, the message and the actions of a decision in one line."""
    done = [_describe(action) for action in decision.actions]
    if decision.releases:
        done.append(f"remove finalizer {decision.releases}")
    status = decision.status
    conditions = [f"{c['type']}={c['status']}" for c in status.get("conditions", ())]
    described = [str(status[field]) for field in ("phase", "message") if status.get(field)] or conditions
    what = " ".join(described)
    logger.info(
        "%s %s/%s: %s",
        key.kind,
        key.namespace,
        key.name,
        "; ".join([what, *done]),
        extra={
            "kind": key.kind,
            "namespace": key.namespace,
            "object": key.name,
            "phase": status.get("phase"),
            "actions": done,
        },
    )


def _describe(action: Action) -> str:
    match action:
        case Create(obj):
            return f"create {obj['kind']} {obj['metadata']['name']}"
        case Put(obj):
            return f"put {obj['kind']} {obj['metadata']['name']}"
        case Delete(key):
            return f"delete {key.kind} {key.name}"
        case LookUpEvents(uid=uid):
            return f"look up events about {uid}"
        case AddFinalizer(name):
            return f"add finalizer {name}"
