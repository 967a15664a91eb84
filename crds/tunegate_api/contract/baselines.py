"""Cached results of base models, and the digests of the cache files that pods may use.

A pod writes cache files to the volume. Other pods can change the volume, so the pod reports the digests of
these files in its termination message. The operator records the digests in status, which only the operator
can write, and passes them to later pods in an environment variable.
"""

from collections.abc import Iterable

from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.evaluation_status import BaselineDigest

BASELINES_VARIABLE = "TUNEGATE_BASELINES"
"""Environment variable with the key and digest of each cached baseline that a pod may use: KEY:SHA256,
separated by commas."""


class MeasuredBaseline(BaselineDigest):
    """A cached result of a base model, which a pod wrote to the cache or read from the cache."""

    refused: Sha256 | None = None
    """Digest of the cached file that the pod refused, because a different digest was recorded for this key.
    The pod then evaluated the base model again. None if no file was refused."""


def write_baselines(recorded: Iterable[BaselineDigest]) -> str:
    """Return the value of :data:`BASELINES_VARIABLE` for these baselines."""
    return ",".join(dict.fromkeys(f"{one.key}:{one.sha256}" for one in recorded))


def read_baselines(text: str) -> dict[str, frozenset[str]]:
    """Parse the value of :data:`BASELINES_VARIABLE`, and return the recorded digests of each key."""
    found: dict[str, frozenset[str]] = {}
    for one in text.split(","):
        key, _, digest = one.partition(":")
        found[key] = found.get(key, frozenset()) | {digest}
    return found
