"""Read and build owner references."""

from dataclasses import dataclass

from tunegate_operator.engine.cluster import Key, Object


@dataclass(frozen=True, slots=True)
class Owner:
    """The controlling owner of an object, in the same namespace."""

    key: Key
    uid: str
    group: str
    """The API group of the owner's kind, without a version. Empty for the core group."""

    @classmethod
    def of(cls, obj: Object) -> "Owner":
        """Return ``obj`` as an owner."""
        return cls(Key.of(obj), obj["metadata"]["uid"], _group(obj))


def controlling_owner(obj: Object) -> Owner | None:
    """Return the owner whose reference has ``controller: true``, or None."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "default")
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            key = Key(reference["kind"], namespace, reference["name"])
            return Owner(key, reference["uid"], _group(reference))
    return None


def owner_uids(obj: Object) -> set[str]:
    """Return the uids of all owners, controlling or not."""
    return {reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ()}


def _group(obj: Object) -> str:
    group, slash, _ = str(obj.get("apiVersion", "")).partition("/")
    return group if slash else ""


def owner_reference(owner: Object) -> Object:
    """Build the reference that makes ``owner`` the controlling owner of an object."""
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
