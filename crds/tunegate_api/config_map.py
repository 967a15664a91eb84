"""Which key of a ConfigMap is meant, where a spec names the ConfigMap and may leave the key out."""

from collections.abc import Iterable


def visible_keys(keys: Iterable[str]) -> list[str]:
    """Return the keys that count where none is named: those that do not begin with a dot, sorted.

    A pod sees a ConfigMap as a folder, in which names that begin with a dot are hidden, and those that begin
    with two dots are Kubernetes' own. A key that begins with a dot is used only where it is named.
    """
    return sorted(key for key in keys if not key.startswith("."))
