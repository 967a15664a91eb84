"""The status of a gate of a :class:`World`."""

from support.world import World
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2 import EvalGateStatus


def status(world: World, name: str = "golden") -> EvalGateStatus:
    return EvalGateStatus.model_validate(world.gate(name)["status"])


def ready(world: World, name: str = "golden") -> tuple[str, str, str]:
    """Return status, reason and message of the condition Ready."""
    condition = find_condition(status(world, name).conditions, "Ready")
    assert condition is not None
    return condition.status, condition.reason, condition.message
