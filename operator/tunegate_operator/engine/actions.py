"""Carry out the actions of a decision, such as creating, replacing and deleting children."""

import logging
from collections.abc import Collection, Iterable

from tunegate_operator.engine.apply import apply, create_ours
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import (
    AlreadyExistsError,
    Cluster,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    Key,
    NotFoundError,
    Object,
    TerminatingError,
    UnavailableError,
)
from tunegate_operator.engine.controller import (
    Action,
    AddFinalizer,
    Cause,
    Create,
    Delete,
    EventsAbout,
    LookUpEvents,
    Put,
    Refusal,
)
from tunegate_operator.engine.finalizers import add_finalizer
from tunegate_operator.engine.objects import uid_of

logger = logging.getLogger(__name__)

CAUSES: dict[type[ClusterError], Cause] = {
    AlreadyExistsError: "Taken",
    ForbiddenError: "Forbidden",
    TerminatingError: "Forbidden",
    InvalidObjectError: "Invalid",
    UnavailableError: "Unavailable",
}
"""Errors that are stored, with their cause, for the next decision. After any other error, the reconciliation
is only retried."""


class Actions:
    """Carries out actions in a cluster, and stores their results in the cache. ``kinds`` are the kinds that
    are watched."""

    def __init__(self, cluster: Cluster, cache: Cache, clock: Clock, kinds: Collection[str]) -> None:
        self._cluster = cluster
        self._cache = cache
        self._clock = clock
        self._kinds = kinds

    def carry_out(self, obj: Object, actions: Iterable[Action]) -> tuple[Object, int, ClusterError | None]:
        """Carry out actions in order. Stop at the first action that fails, because later ones may depend on
        it. Return the object that the decision is about as the actions left it, how many actions succeeded,
        and the error of the one that failed."""
        done, uid = 0, uid_of(obj)
        for action in actions:
            try:
                if isinstance(action, AddFinalizer):
                    obj = self._add_finalizer(obj, action.name)
                else:
                    self._carry_out(action)
            except ClusterError as error:
                cause = CAUSES.get(type(error))
                if cause and isinstance(action, Create | Put | AddFinalizer):
                    kind = obj["kind"] if isinstance(action, AddFinalizer) else action.obj["kind"]
                    refusal = Refusal(kind, str(error), cause, self._clock.now())
                    self._cache.set_refusal(uid, refusal.after(self._cache.refusal(uid)))
                return obj, done, error
            done += 1
        self._cache.set_refusal(uid, None)
        return obj, done, None

    def refresh(self, key: Key) -> None:
        """Update the cached object from the cluster, because the watch has not delivered its latest state."""
        held, current = self._cache.uid_at(key), self._cluster.get(key)
        if current:
            self._cache.put(current)
        elif held:
            self._cache.remove(held)

    def _add_finalizer(self, obj: Object, name: str) -> Object:
        """Add a finalizer, and return the object with its new version, over which the status is written."""
        try:
            obj = add_finalizer(self._cluster, obj, name)
        except (ConflictError, NotFoundError):
            self.refresh(Key.of(obj))
            raise
        self._cache.put(obj)
        return obj

    def _carry_out(self, action: Create | Put | Delete | LookUpEvents) -> None:
        sign = self._cache.signer.sign if self._cache.signer else _unsigned
        match action:
            case Create(desired):
                obj = sign(desired)
                created = create_ours(self._cluster, obj)
                if obj["kind"] in self._kinds:  # other kinds are not watched: they would become stale
                    self._cache.put(created)
                if created.get("data") != obj.get("data"):  # the decision did not know this record
                    raise ConflictError(f"{obj['kind']} {obj['metadata']['name']} has other content")
            case Put(desired):
                key, obj = Key.of(desired), sign(desired)
                try:
                    self._cache.put(apply(self._cluster, obj, self._cache.get(key)))
                except (ConflictError, NotFoundError):
                    self.refresh(key)
                    raise
            case Delete(key, uid):
                self._cluster.delete(key, uid)
            case LookUpEvents(namespace, uid):
                self._look_up_events(namespace, uid)

    def _look_up_events(self, namespace: str, uid: str) -> None:
        """List the Events about an object, and store them. If this fails, store that there are no Events."""
        found: list[Object] = []
        try:
            found = self._cluster.list_events(namespace, uid)
        except ClusterError as error:
            logger.warning("the events about %s cannot be listed: %s", uid, error)
        self._cache.set_events(uid, EventsAbout(self._clock.now(), tuple(found)))


def _unsigned(obj: Object) -> Object:
    return obj
