"""Create an object, or replace it where its content differs: what a Put means."""

from tunegate_operator.engine.cluster import AlreadyExistsError, Cluster, Key, Object
from tunegate_operator.engine.objects import is_being_deleted, wire
from tunegate_operator.engine.owners import controlling_owner


def create_ours(cluster: Cluster, desired: Object) -> Object:
    """Create; an existing object of this name with the same controlling owner is what we want, too.

    Raises AlreadyExistsError while the name belongs to someone else or to an object that is going away:
    garbage collection will free it, or nobody will. Raises InvalidError and ClusterError.
    """
    try:
        return cluster.create(desired)
    except AlreadyExistsError:
        existing = cluster.get(Key.of(desired))
        if existing is None:  # gone since
            raise
        return _ours(existing, desired)


def apply(cluster: Cluster, desired: Object, held: Object | None = None) -> Object:
    """Make the cluster hold ``desired``; returns the object as it is then.

    ``held`` is the whole object as the caller last saw it. What the cluster sets itself, the status, and
    labels and annotations of others stay as they are. Raises ConflictError when ``held`` is out of date, and
    as :func:`create_ours` does.
    """
    existing = _ours(held, desired) if held else create_ours(cluster, desired)
    updated = _updated(existing, desired)
    return existing if updated == existing else cluster.replace(updated)


def _ours(existing: Object, desired: Object) -> Object:
    name = f"{desired['kind']} {desired['metadata']['name']}"
    if is_being_deleted(existing):
        raise AlreadyExistsError(f"{name} is still being deleted")
    theirs, mine = controlling_owner(existing), controlling_owner(desired)
    if (theirs and theirs.uid) != (mine and mine.uid):
        whose = f"{theirs.key.kind} {theirs.key.name} ({theirs.uid})" if theirs else "nobody"
        raise AlreadyExistsError(f"{name} exists and belongs to {whose}")
    return existing


def _updated(existing: Object, desired: Object) -> Object:
    """``desired`` with what the cluster set on ``existing``."""
    content = wire(desired)
    content.pop("status", None)
    wanted = content["metadata"]
    metadata = dict(existing["metadata"])
    for field in ("labels", "annotations"):
        if wanted.get(field):
            metadata[field] = {**metadata.get(field, {}), **wanted[field]}
    if wanted.get("ownerReferences"):
        metadata["ownerReferences"] = wanted["ownerReferences"]
    status = {"status": existing["status"]} if "status" in existing else {}
    return content | {"metadata": metadata} | status
