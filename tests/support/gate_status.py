"""The status of the gate of a :class:`World`."""

from support.world import World
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha1 import EvalGateStatus


def status(world: World) -> EvalGateStatus:
    return EvalGateStatus.model_validate(world.gate()["status"])


def ready(world: World) -> tuple[str, str, str]:
    """Return status, reason and message of the condition Ready."""
    condition = find_condition(status(world).conditions, "Ready")
    assert condition is not None
    return condition.status, condition.reason, condition.message
