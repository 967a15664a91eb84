"""Leader election with a coordination.k8s.io Lease: at most one operator makes decisions at any time.

Kopf's peering is not used because it has no compare-and-swap. The protocol is that of client-go: a candidate
may take over a Lease that has not changed for ``leaseDurationSeconds``. The candidate measures this time with
its own clock, so the clocks of different machines need not agree.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Cluster, ClusterError, Key, Object

logger = logging.getLogger(__name__)

DURATION = 15.0
"""Seconds without renewal after which another candidate may take the Lease."""
RENEW_DEADLINE = 10.0
"""Seconds after the start of the last successful renewal until the holder stops leading. If a last attempt
starts just before this deadline, and its read and its write both time out, the attempt still ends before
``DURATION``."""
RETRY = 2.0
"""Seconds between attempts to acquire the Lease or to renew it."""
LONGEST_DURATION = 3600
"""The longest ``leaseDurationSeconds`` that is accepted in another holder's Lease. A longer duration counts
as malformed, because it could block leader election forever."""


class Lease:
    """One candidate in the leader election. Only one thread may use it."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, name: str, identity: str) -> None:
        self._cluster = cluster
        self._clock = clock
        self._key = Key("Lease", namespace, name)
        self._identity = identity
        self._seen: Object | None = None
        self._seen_at = 0.0

    def lead(self, started: Callable[[], None], stop: threading.Event) -> bool:
        """Wait for the Lease, call ``started`` once, and renew it until ``stop`` is set.

        Returns True once ``stop`` is set; a held Lease is then released. Returns False if the Lease was lost:
        the process must exit at once, because another process may be the leader now. After an exception, the
        process must exit at once, too.
        """
        renewed = self._clock.monotonic()
        while not self._try_to_hold():
            if stop.wait(RETRY):
                return True
            renewed = self._clock.monotonic()
        logger.info("leading as %s", self._identity)
        started()
        while not stop.wait(RETRY):
            asked = self._clock.monotonic()  # before the request: others may see the renewal before we do
            if self._try_to_hold():
                renewed = asked
            elif self._is_held_by_another() or self._clock.monotonic() - renewed >= RENEW_DEADLINE:
                logger.error("the Lease %s is lost", self._key.name)
                return False
        self._release()
        return True

    def _try_to_hold(self) -> bool:
        """Acquire or renew the Lease. Returns False if another candidate holds it, or if the request
        failed."""
        try:
            return self._hold()
        except ClusterError as error:
            logger.warning("the Lease %s cannot be taken or renewed: %s", self._key.name, error)
            return False

    def _hold(self) -> bool:
        now = self._clock.now()
        current = self._cluster.get(self._key)
        if current is None:
            self._observe(self._cluster.create(self._object(now, transitions=0)))
            return True
        spec, problems = _read_spec(current)
        if self._seen is None or current.get("spec") != self._seen.get("spec"):
            self._observe(current)
            if problems:
                logger.warning(
                    "the Lease %s is malformed: %s; it is replaced after %.0f s unless its holder renews it",
                    self._key.name,
                    "; ".join(problems),
                    spec.get("leaseDurationSeconds", DURATION),
                )
        holder = spec.get("holderIdentity")
        if holder and holder != self._identity:
            age = self._clock.monotonic() - self._seen_at
            if age < spec.get("leaseDurationSeconds", DURATION):
                return False
        changed = self._object(
            now, transitions=spec.get("leaseTransitions", 0) + (holder != self._identity), before=current
        )
        self._observe(self._cluster.replace(changed))
        return True

    def _observe(self, lease: Object) -> None:
        self._seen, self._seen_at = lease, self._clock.monotonic()

    def _is_held_by_another(self) -> bool:
        return self._seen is not None and _holder(self._seen) != self._identity

    def _object(self, now: datetime, transitions: int, before: Object | None = None) -> Object:
        taken = _timestamp(now)
        if before and _holder(before) == self._identity:
            taken = before["spec"].get("acquireTime", taken)
        metadata = {"name": self._key.name, "namespace": self._key.namespace}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": before["metadata"] if before else metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(DURATION),
                "acquireTime": taken,
                "renewTime": _timestamp(now),
                "leaseTransitions": transitions,
            },
        }

    def _release(self) -> None:
        """Release the Lease so that another candidate need not wait. If this fails, the Lease expires
        anyway."""
        try:
            current = self._cluster.get(self._key)
            if current and _holder(current) == self._identity:
                held_by_nobody = {k: v for k, v in current["spec"].items() if k != "holderIdentity"}
                self._cluster.replace(current | {"spec": held_by_nobody | {"leaseDurationSeconds": 1}})
        except ClusterError as error:
            logger.warning("the Lease %s was not released: %s", self._key.name, error)


def _read_spec(lease: Object) -> tuple[Object, list[str]]:
    """Return the well-formed fields of a Lease's spec, and a description of each malformed field.

    The Lease is checked because anybody with permissions in the namespace may have written it.
    """
    spec = lease.get("spec") or {}
    if not isinstance(spec, dict):
        return {}, [f"spec is {spec!r}, and must be an object"]
    read, problems = {}, []
    for field, (is_right, must_be) in _FIELDS.items():
        value = spec.get(field)
        if value is None:
            continue
        if is_right(value):
            read[field] = value
        else:
            problems.append(f"spec.{field} is {value!r}, and must be {must_be}")
            if field == "holderIdentity":  # a malformed holder still holds the Lease
                read[field] = str(value)
    return read, problems


def _holder(lease: Object) -> str | None:
    holder: str | None = _read_spec(lease)[0].get("holderIdentity")
    return holder


def _is_whole(value: object, least: int, most: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "holderIdentity": (lambda value: isinstance(value, str), "a string"),
    "leaseDurationSeconds": (
        lambda value: _is_whole(value, 1, LONGEST_DURATION),
        f"a whole number from 1 to {LONGEST_DURATION}",
    ),
    "leaseTransitions": (lambda value: _is_whole(value, 0, float("inf")), "a whole number"),
    "acquireTime": (lambda value: isinstance(value, str), "a time"),
}


def _timestamp(moment: datetime) -> str:
    """Format a time for a Lease: RFC 3339 with microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
