"""The ConfigMaps that record a job in a simulated world, and what users do to them."""

from typing import Any

from support.world import World
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import request_name


def request_of(world: World, name: str = "orders") -> Object:
    """Return the ConfigMap with the request of a job."""
    found = world.cluster.as_user.get(
        Key("ConfigMap", "default", request_name(name, uid_of(world.job(name))))
    )
    assert found is not None
    return found


def delete(world: World, obj: Object) -> None:
    """Delete an object, as a user."""
    world.cluster.as_user.delete(Key.of(obj), uid_of(obj))


def restore(world: World, record: Object, **changes: Any) -> None:
    """Create a ConfigMap again, with the labels and the owner that it had. With ``changes``, the operator has
    signed other content, for example another version of the operator."""
    kept = ("name", "namespace", "labels", "ownerReferences")
    metadata = {field: record["metadata"][field] for field in kept}
    world.cluster.as_user.create(world.signed({**record, "metadata": metadata, **changes}))


def replace_record(world: World, record: Object, data: dict[str, str]) -> None:
    """Delete a ConfigMap, and create one with the same name and other content, which the operator has
    signed."""
    found = world.cluster.as_user.get(Key.of(record))
    assert found is not None
    delete(world, found)
    restore(world, record, data=data)
