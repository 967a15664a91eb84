"""Create an object, or replace it if its content differs. The engine carries out the actions Create and Put
with these functions."""

from tunegate_operator.engine.cluster import AlreadyExistsError, Cluster, Key, Object
from tunegate_operator.engine.objects import is_being_deleted, wire
from tunegate_operator.engine.owners import controlling_owner


def create_ours(cluster: Cluster, desired: Object) -> Object:
    """Create ``desired``, or return the existing object of this name if it has the same controlling owner.

    Raises AlreadyExistsError if the existing object has another controlling owner, is being deleted, or is a
    Service that selects other pods, and the errors of ``Cluster.create``.
    """
    try:
        return cluster.create(desired)
    except AlreadyExistsError:
        existing = cluster.get(Key.of(desired))
        if existing is None:  # deleted in the meantime
            raise
        found = _ours(existing, desired)
        if desired["kind"] == "Service" and found["spec"].get("selector") != desired["spec"]["selector"]:
            name = desired["metadata"]["name"]
            raise AlreadyExistsError(f"Service {name} already exists, but it selects other pods") from None
        return found


def apply(cluster: Cluster, desired: Object, held: Object | None = None) -> Object:
    """Create ``desired`` or update the existing object to match it. Returns the object as the cluster has it.

    ``held`` is the whole existing object as the caller last read it, or None if the caller found no object.
    An update keeps the status, the metadata that the cluster sets, and labels and annotations that other
    clients added. Raises ConflictError if ``held`` is out of date, NotFoundError if the object was deleted
    after the caller read it, and the errors of :func:`create_ours`.
    """
    existing = _ours(held, desired) if held else create_ours(cluster, desired)
    updated = _updated(existing, desired)
    return existing if updated == existing else cluster.replace(updated)


def _ours(existing: Object, desired: Object) -> Object:
    name = f"{desired['kind']} {desired['metadata']['name']}"
    if is_being_deleted(existing):
        raise AlreadyExistsError(f"{name} is still being deleted")
    theirs, mine = controlling_owner(existing), controlling_owner(desired)
    if theirs != mine:
        whose = "has no owner"
        if theirs:
            kind = f"{theirs.key.kind}.{theirs.group}" if theirs.group else theirs.key.kind
            whose = f"belongs to {kind} {theirs.key.name} ({theirs.uid})"
        raise AlreadyExistsError(f"{name} already exists, but it {whose}")
    return existing


def _updated(existing: Object, desired: Object) -> Object:
    """Return ``desired`` with the status and metadata of ``existing``. Labels, annotations and owner
    references of ``desired`` have priority."""
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
