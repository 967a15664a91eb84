"""Add and remove finalizers. An object that is deleted stays until it has no finalizers.

The finalizers are read from the cluster before they are changed, because the cache has only those that
decisions read.
"""

from tunegate_operator.engine.cluster import Cluster, ConflictError, Key, NotFoundError, Object
from tunegate_operator.engine.objects import is_being_deleted, uid_of


def add_finalizer(cluster: Cluster, obj: Object, name: str) -> Object:
    """Add a finalizer to an object, unless the object has it. Return the object as the cluster has it.

    Raises ConflictError if ``obj`` is out of date or is being deleted, NotFoundError, and the errors of
    ``Cluster.patch_finalizers``.
    """
    current = _current(cluster, obj)
    if current is None:
        raise NotFoundError(f"{obj['kind']} {obj['metadata']['name']} was deleted")
    found, version = _finalizers(current), obj["metadata"]["resourceVersion"]
    if current["metadata"]["resourceVersion"] != version or is_being_deleted(current):
        raise ConflictError(f"{obj['kind']} {obj['metadata']['name']} was modified since it was read")
    return current if name in found else cluster.patch_finalizers(Key.of(obj), [*found, name], version)


def remove_finalizer(cluster: Cluster, obj: Object, name: str) -> None:
    """Remove a finalizer from an object, if the object exists and has it.

    Raises the errors of ``Cluster.patch_finalizers``, but not NotFoundError."""
    current = _current(cluster, obj)
    if current is None or name not in _finalizers(current):
        return
    others = [finalizer for finalizer in _finalizers(current) if finalizer != name]
    try:
        cluster.patch_finalizers(Key.of(obj), others, current["metadata"]["resourceVersion"])
    except NotFoundError:
        return


def _current(cluster: Cluster, obj: Object) -> Object | None:
    """Read an object. Return None if it was deleted, even if another object has its name."""
    current = cluster.get(Key.of(obj))
    return current if current and uid_of(current) == uid_of(obj) else None


def _finalizers(obj: Object) -> list[str]:
    return obj["metadata"].get("finalizers") or []
