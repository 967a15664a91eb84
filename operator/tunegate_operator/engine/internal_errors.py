"""Show internal errors where users look: an Event about the object at once, and the condition Stalled once
its reconciliation keeps failing."""

import logging
from collections.abc import Callable

from tunegate_api.v1alpha2.reasons import ConditionType, Reason
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Cluster, ClusterError, ConflictError, Key, Object
from tunegate_operator.engine.controller import Event
from tunegate_operator.engine.objects import is_being_deleted, timestamp

logger = logging.getLogger(__name__)

STALLED_AFTER = 5
"""After how many internal errors in a row, since the last decision that succeeded, an object is Stalled. The
first five are less than a tenth of a second apart."""
_BEGINNING = "the operator cannot reconcile this object"
"""How the message of the condition starts. A job that failed may have the same reason."""


class InternalErrors:
    """Reports internal errors about objects. One thread at a time may report errors about an object."""

    def __init__(
        self, cluster: Cluster, cache: Cache, clock: Clock, record_event: Callable[[Object, Event], None]
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._clock = clock
        self._record_event = record_event
        self._counts: dict[Key, int] = {}

    def report(self, key: Key, error: Exception) -> None:
        """Record an Event about the object, and with :data:`STALLED_AFTER` errors in a row the condition
        Stalled. Raises nothing: the next error is reported again."""
        self._counts[key] = self._counts.get(key, 0) + 1
        try:
            obj = self._cache.get(key)
            if obj is None or is_being_deleted(obj):
                return
            message = _message(key, error)
            self._record_event(obj, Event("Warning", Reason.INTERNAL_ERROR, message))
            if self._counts[key] >= STALLED_AFTER and not _is_stalled(obj):
                self._stall(key, message)
        except ConflictError:
            logger.debug("%s %s/%s: changed while Stalled was written", key.kind, key.namespace, key.name)
        except ClusterError as failure:
            logger.warning("%s %s/%s: not marked as Stalled: %s", key.kind, key.namespace, key.name, failure)
        except Exception:
            logger.exception("%s %s/%s: error not reported", key.kind, key.namespace, key.name)

    def forget(self, key: Key) -> None:
        """Start to count from zero, because a decision about the object succeeded."""
        self._counts.pop(key, None)

    def _stall(self, key: Key, message: str) -> None:
        """Write the condition once. The write leads to one reconciliation before the backoff has passed. If
        that fails, too, the condition is there, and nothing is written: otherwise, each write would cause the
        next one."""
        current = self._cluster.get(key)  # the cache may have dropped a large status
        if current is None or _is_stalled(current):
            return
        metadata, status = current["metadata"], current.get("status") or {}
        generation = metadata.get("generation", 1)
        condition = {
            "type": ConditionType.STALLED,
            "status": "True",
            "reason": Reason.INTERNAL_ERROR,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": timestamp(self._clock.now()),
        }
        # kstatus reports InProgress for an object that is Reconciling, or has an older generation.
        kept = [c for c in status.get("conditions") or () if c["type"] not in _REPLACED]
        new = status | {"conditions": [*kept, condition], "observedGeneration": generation}
        self._cache.put(self._cluster.patch_status(key, new, metadata["resourceVersion"]))


_REPLACED = (ConditionType.RECONCILING, ConditionType.STALLED)


def has_internal_error(status: Object) -> bool:
    """Return whether status has the condition Stalled of :class:`InternalErrors`."""
    return any(map(_is_about_an_error, status.get("conditions") or ()))


def without_internal_error(status: Object) -> Object:
    """Return status without the condition Stalled of :class:`InternalErrors`."""
    if not has_internal_error(status):
        return status
    return status | {"conditions": [c for c in status["conditions"] if not _is_about_an_error(c)]}


def _is_about_an_error(condition: Object) -> bool:
    return (
        condition.get("type") == ConditionType.STALLED
        and condition.get("reason") == Reason.INTERNAL_ERROR
        and str(condition.get("message")).startswith(_BEGINNING)
    )


def _is_stalled(obj: Object) -> bool:
    """Return whether an object has the condition Stalled, for whatever reason: a person has to act anyway."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == ConditionType.STALLED and c.get("status") == "True" for c in conditions)


def _message(key: Key, error: Exception) -> str:
    """Return the message without the text of the error, which may have parts of a Secret."""
    return (
        f"{_BEGINNING}, and retries: internal error {type(error).__name__}. See the operator's log, at "
        f'"{key.kind} {key.namespace}/{key.name}: internal error". If an upgrade of the operator does not '
        "help, report the bug with these lines"
    )
