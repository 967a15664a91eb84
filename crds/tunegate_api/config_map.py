"""Choose the key of a ConfigMap if a spec names the ConfigMap but omits the key."""

from collections.abc import Iterable


def visible_keys(keys: Iterable[str]) -> list[str]:
    """Return the keys of a ConfigMap that do not begin with a dot, sorted.

    A ConfigMap is mounted as a folder, in which names that begin with a dot are hidden, and names that begin
    with two dots belong to Kubernetes. A key that begins with a dot is used only if a spec names this key.
    """
    return sorted(key for key in keys if not key.startswith("."))
