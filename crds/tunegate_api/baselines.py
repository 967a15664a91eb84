"""Cached results of base models, and how pods know which files of the cache they may use.

A pod names the digest of each file that it writes in its termination message, which does not lie on the
volume. The operator records it in status, which nobody else can write, and gives what it recorded to later
pods in a variable of their environment.
"""

from collections.abc import Iterable

from tunegate_api.meta import Sha256
from tunegate_api.v1alpha1.evaluation_status import BaselineDigest

BASELINES_VARIABLE = "TUNEGATE_BASELINES"
"""Key and digest of each cached baseline that a pod may use: KEY:SHA256, with commas between them."""


class MeasuredBaseline(BaselineDigest):
    """A base model's results that a pod measured and cached, or read from the cache."""

    refused: Sha256 | None = None
    """The digest of a cached file with this key that is not the recorded one. The pod measured again."""


def write_baselines(recorded: Iterable[BaselineDigest]) -> str:
    """Return the value of :data:`BASELINES_VARIABLE`."""
    return ",".join(dict.fromkeys(f"{one.key}:{one.sha256}" for one in recorded))


def read_baselines(text: str) -> dict[str, frozenset[str]]:
    """Return the recorded digests of each key in the value of :data:`BASELINES_VARIABLE`."""
    found: dict[str, frozenset[str]] = {}
    for one in text.split(","):
        key, _, digest = one.partition(":")
        found[key] = found.get(key, frozenset()) | {digest}
    return found
