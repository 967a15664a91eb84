"""One turn of the wheel: observe, decide, act, write status once, tell.

A crash between any two steps, or doing a step twice, ends in the same state: children have deterministic
names, the status is written whole and only over the version that was decided on, and events are told only
by the turn whose status write changed something.
"""

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future

from tunegate_operator.engine.apply import apply, create_ours
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import (
    AlreadyExistsError,
    Cluster,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Key,
    NotFoundError,
    Object,
    TerminatingError,
    UnavailableError,
    WatchEvent,
)
from tunegate_operator.engine.controller import (
    Action,
    Cause,
    Controller,
    Create,
    Decision,
    Delete,
    Event,
    EventsAbout,
    LookUpEvents,
    Put,
    Refusal,
    UnreadableStatusError,
)
from tunegate_operator.engine.objects import uid_of, wire
from tunegate_operator.engine.queue import WorkQueue

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL = 30.0
"""Seconds between status writes that only tell progress."""
PROGRESS_FIELDS = ("progress", "message", "cost")
WORKER_PATIENCE = 0.5
"""Seconds after which an idle worker looks whether it should stop."""
REMEMBERED_EVENTS = 4096
CHILD_KINDS = ("ConfigMap", "Job", "Pod")
"""Listed before their owners: the first decision about one should already see them."""
CAUSES: dict[type[ClusterError], Cause] = {
    AlreadyExistsError: "Taken",
    ForbiddenError: "Forbidden",
    TerminatingError: "Forbidden",
    InvalidError: "Invalid",
    UnavailableError: "Unavailable",
}
"""Errors that decisions look at; all others are only tried again."""
OUTAGES = (ClusterError, UnavailableError)
"""Errors of the cluster, whatever is asked of it: no answer, an answer of 5xx, or too many requests."""


class Reconciler:
    """Keeps the objects of the controllers' kinds as they should be. Every method is thread-safe."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        queue: WorkQueue,
        controllers: Iterable[Controller],
        clock: Clock,
        *,
        progress_interval: float = PROGRESS_INTERVAL,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._controllers = {controller.kind: controller for controller in controllers}
        self._clock = clock
        self._progress_interval = progress_interval
        self._kinds = (*CHILD_KINDS, *self._controllers)
        self._status_written: dict[str, float] = {}
        self._told: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._complaints: dict[Key, str] = {}
        self._lock = threading.Lock()  # guards _told

    # What comes in

    def handle(self, event: WatchEvent) -> None:
        """Take in what a watch saw, and look again at whom it concerns."""
        if self._cache.apply(event):
            self._wake(event)
        elif event.type == "DELETED":  # which a request had found out before
            self._forget(uid_of(event.obj))

    def handle_report(self, report: Object) -> Future[None]:
        """Take in what a running pod says: a ``tunegate_api.contract.Report`` as JSON.

        What is returned is done once status says it: only then may the pod forget it. Raises KeyError if
        the report lacks what identifies it.
        """
        store = self._cache.report_store
        is_new = store.put(report)
        promise = store.acknowledgement(report)
        owner = self._cache.by_uid(report["jobUid"])
        if owner is None:  # it was deleted meanwhile
            store.forget(report["jobUid"])
        elif is_new or not promise.done():
            self._queue.add(Key.of(owner))
        return promise

    def resync(self, *kinds: str, namespace: str | None = None) -> None:
        """List everything, or these kinds, or one namespace, and take in what a watch missed, deletions too.
        Also how to start.

        Raises ClusterError; what was listed before is taken in.
        """
        for kind in kinds or self._kinds:
            since = self._cache.mark()
            listed = self._cluster.list_objects(kind, namespace)
            for event in self._cache.resync(kind, listed, since, namespace):
                self._wake(event)

    def _wake(self, event: WatchEvent) -> None:
        changed = event.obj
        key = Key.of(changed)
        if event.type == "DELETED" and key.kind in self._controllers:
            self._forget(uid_of(changed))
        concerned = [key, *(owner.key for owner in self._cache.owners(changed))]
        for controller in self._controllers.values():
            try:
                concerned += controller.concerns(changed, self._cache)
            except Exception:
                logger.exception(
                    "%s: internal error while finding the objects that %s concerns", controller.kind, key
                )
        for one in concerned:
            if one.kind in self._controllers:
                self._queue.add(one)

    def _forget(self, uid: str) -> None:
        """Drop what is kept of an object beside the object itself."""
        self._cache.report_store.forget(uid)
        self._status_written.pop(uid, None)

    # What goes out

    def run_worker(self, stop: threading.Event) -> None:
        """Process keys until ``stop`` is set or the queue is shut down."""
        while not stop.is_set():
            key = self._queue.get(WORKER_PATIENCE)
            if key is not None:
                self._process_and_release(key)

    def run_ready(self, limit: int = 1000) -> int:
        """Process what is ready now and what that makes ready, in this thread; returns how many keys.

        ``limit`` keeps a decision that never settles from hanging the caller.
        """
        for count in range(limit):
            key = self._queue.get(0)
            if key is None:
                return count
            self._process_and_release(key)
        logger.warning("still not settled after %d decisions", limit)
        return limit

    def _process_and_release(self, key: Key) -> None:
        try:
            self.process(key)
        finally:
            self._queue.done(key)

    def process(self, key: Key) -> None:
        """One turn for one object. Whatever fails is tried again after the key's backoff, for ever."""
        try:
            again = self._reconcile(key)
        except (ClusterError, UnreadableStatusError) as error:
            self._complain(key, error)
            self._queue.add_failed(key, outage=type(error) in OUTAGES)
        except Exception:  # a bug in one object's decision must not take the others down
            logger.exception("%s %s/%s: internal error", key.kind, key.namespace, key.name)
            self._queue.add_failed(key)
        else:
            self._complaints.pop(key, None)
            self._queue.forget(key)
            if again is not None:
                self._queue.add_after(key, again)

    def _reconcile(self, key: Key) -> float | None:
        """Returns the seconds after which to look again, if it must be."""
        obj = self._cache.get(key)
        if obj is None:
            return None
        reports = self._cache.reports(uid_of(obj))
        decision = self._controllers[key.kind].decide(obj, self._cache, self._clock.now())
        if decision is None:  # whatever its pods say, nobody wants to know any more
            self._cache.report_store.acknowledge(uid_of(obj), reports)
            self._cache.report_store.forget(uid_of(obj))
            return None
        failure: ClusterError | None = None
        try:
            self._act(uid_of(obj), decision.actions)
        except ClusterError as error:
            failure = error
        throttled = None
        if not (failure and decision.is_last):
            throttled = self._write_status(key, obj, decision)
            for warning in decision.warnings:
                self._tell(obj, warning)
        if isinstance(failure, TerminatingError):  # no pod need wait for what is not recorded any more
            self._cache.report_store.forget(uid_of(obj))
        if failure:
            if decision.requeue_after is not None:  # a deadline does not wait for the backoff
                self._queue.add_after(key, decision.requeue_after)
            raise failure
        is_told = throttled is None and wire(decision.status) != (obj.get("status") or {})  # by writing it
        if not is_told and any(not isinstance(action, LookUpEvents) for action in decision.actions):
            _log(key, decision)
        if decision.acknowledges:
            self._cache.report_store.acknowledge(uid_of(obj), reports)
        if any(isinstance(action, LookUpEvents) for action in decision.actions):
            return 0
        return min((s for s in (decision.requeue_after, throttled) if s is not None), default=None)

    def _act(self, owner_uid: str, actions: Iterable[Action]) -> None:
        """Carry out actions in order, up to the first that fails: later ones may build on it."""
        for action in actions:
            try:
                self._carry_out(action)
            except ClusterError as error:
                cause = CAUSES.get(type(error))
                if cause and isinstance(action, Create | Put):
                    refusal = Refusal(action.obj["kind"], str(error), cause, self._clock.now())
                    self._cache.set_refusal(owner_uid, refusal.after(self._cache.refusal(owner_uid)))
                raise
        self._cache.set_refusal(owner_uid, None)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Create(obj):
                created = create_ours(self._cluster, obj)
                if obj["kind"] in self._kinds:  # nothing is decided from others, and nobody says when they go
                    self._cache.put(created)
            case Put(obj):
                key = Key.of(obj)
                try:
                    self._cache.put(apply(self._cluster, obj, self._cache.get(key)))
                except (ConflictError, NotFoundError):
                    self._refresh(key)
                    raise
            case Delete(key, uid):
                self._cluster.delete(key, uid)
            case LookUpEvents(namespace, uid):
                self._look_up_events(namespace, uid)

    def _look_up_events(self, namespace: str, uid: str) -> None:
        """Best effort: a look-up that fails has found nothing."""
        found: list[Object] = []
        try:
            found = self._cluster.list_events(namespace, uid)
        except ClusterError as error:
            logger.warning("the events about %s cannot be listed: %s", uid, error)
        self._cache.set_events(uid, EventsAbout(self._clock.now(), tuple(found)))

    def _write_status(self, key: Key, obj: Object, decision: Decision) -> float | None:
        """Write it if it differs, then tell the events. Returns seconds to wait if progress must wait."""
        uid = uid_of(obj)
        old, new = obj.get("status") or {}, wire(decision.status)
        if new == old:
            return None
        is_progress = _tells_progress_alone(old, new, message_is_progress=decision.message_is_progress)
        if is_progress and uid in self._status_written:
            wait = self._status_written[uid] + self._progress_interval - self._clock.monotonic()
            if wait > 0:
                return wait
        try:
            written = self._cluster.patch_status(key, new, obj["metadata"]["resourceVersion"])
        except NotFoundError:
            self._cache.remove(uid)
            return None
        except ConflictError:
            self._refresh(key)
            raise
        self._cache.put(written)
        self._status_written[uid] = self._clock.monotonic()
        _log(key, decision)
        for event in decision.events:
            self._tell(written, event)
        return None

    def _refresh(self, key: Key) -> None:
        """Look at the object itself, since the watch is behind."""
        held, current = self._cache.uid_at(key), self._cluster.get(key)
        if current:
            self._cache.put(current)
        elif held:
            self._cache.remove(held)

    def _tell(self, obj: Object, event: Event) -> None:
        """Record an event once. Best effort: the status says it already."""
        what = (uid_of(obj), event.reason, event.message)
        with self._lock:
            if what in self._told:
                return
            self._told[what] = None
            if len(self._told) > REMEMBERED_EVENTS:
                self._told.popitem(last=False)
        try:
            self._cluster.record_event(obj, event.type, event.reason, event.message)
        except ClusterError as error:
            logger.warning("event %s not recorded: %s", event.reason, error)

    def _complain(self, key: Key, error: Exception) -> None:
        """Log a failure once, not with every try."""
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, ConflictError) or self._complaints.get(key) == message:
            logger.debug("%s %s/%s: %s", key.kind, key.namespace, key.name, message)
            return
        self._complaints[key] = message
        logger.warning("%s %s/%s: %s; retrying", key.kind, key.namespace, key.name, message)


def _log(key: Key, decision: Decision) -> None:
    """One line for each decision that changed something, with all that it did."""
    done = [_said(action) for action in decision.actions]
    status = decision.status
    conditions = [f"{c['type']}={c['status']}" for c in status.get("conditions", ())]
    said = [str(status[field]) for field in ("phase", "message") if status.get(field)] or conditions
    what = " ".join(said)
    logger.info(
        "%s %s/%s: %s",
        key.kind,
        key.namespace,
        key.name,
        "; ".join([what, *done]),
        extra={
            "kind": key.kind,
            "namespace": key.namespace,
            "object": key.name,
            "phase": status.get("phase"),
            "actions": done,
        },
    )


def _said(action: Action) -> str:
    match action:
        case Create(obj):
            return f"create {obj['kind']} {obj['metadata']['name']}"
        case Put(obj):
            return f"put {obj['kind']} {obj['metadata']['name']}"
        case Delete(key):
            return f"delete {key.kind} {key.name}"
        case LookUpEvents(uid=uid):
            return f"look up events about {uid}"


def _tells_progress_alone(old: Object, new: Object, *, message_is_progress: bool) -> bool:
    """Whether nothing changed but how far the work is, or a message that does not count as news."""
    if _without_progress(new) != _without_progress(old):
        return False
    before, after = (re.sub(r"\d+", "", status.get("message", "")) for status in (old, new))
    return new.get("progress") != old.get("progress") or before == after or message_is_progress


def _without_progress(status: Object) -> Object:
    """A status without what changes all the time and changes nothing."""
    rest = {field: value for field, value in status.items() if field not in PROGRESS_FIELDS}
    rest["conditions"] = [
        # Ready and Reconciling repeat the status's message.
        {f: v for f, v in condition.items() if f != "message" or v != status.get("message")}
        for condition in status.get("conditions", ())
    ]
    if isinstance(rest.get("display"), dict):
        rest["display"] = {f: value for f, value in rest["display"].items() if f != "progress"}
    return rest
