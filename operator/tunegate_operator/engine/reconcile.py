"""Reconcile one object: observe, decide, act, write the status once, record events.

After a crash, or if a write is repeated, the next reconciliation leads to the same state: children have
deterministic names; the status is written as a whole, and only over the version that the decision read; and
events, except warnings, are recorded only after a status write that changed something.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.engine.actions import Actions
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import (
    Cluster,
    ClusterError,
    ConflictError,
    Key,
    NotFoundError,
    Object,
    RequestRefusedError,
    TerminatingError,
    UnauthorizedError,
    UnavailableError,
    UnknownKindError,
    WatchEvent,
)
from tunegate_operator.engine.controller import (
    Controller,
    Decision,
    Event,
    LookUpEvents,
    UnreadableStatusError,
)
from tunegate_operator.engine.decision_log import log_decision
from tunegate_operator.engine.event_limit import EventLimit
from tunegate_operator.engine.finalizers import remove_finalizer
from tunegate_operator.engine.internal_errors import InternalErrors, without_internal_error
from tunegate_operator.engine.objects import uid_of, wire
from tunegate_operator.engine.progress import is_progress_only
from tunegate_operator.engine.queue import WorkQueue
from tunegate_operator.engine.unread import UnreadChanges

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")

PROGRESS_INTERVAL = 30.0
"""Seconds between status writes that only update progress."""
IDLE_SECONDS = 0.5
"""Seconds between two checks of an idle worker whether it should stop."""
CHILD_KINDS = ("ConfigMap", "Job", "Pod")
"""Kinds that are listed before their owners, so that the first decision about an owner sees its children."""
OUTAGES = (ClusterError, UnavailableError, RequestRefusedError, UnauthorizedError, UnknownKindError)
"""Errors that do not depend on the object: no answer, HTTP 5xx, too many requests (HTTP 429), or a request
that is refused whatever its content."""

Observe = Callable[[str, float, bool], None]
"""Called after each reconciliation with the kind, its time in seconds, and whether it succeeded."""
CountFailure = Callable[[str, str], None]
"""Called after each failure with the kind, and the reason that docs/metrics.md explains."""


class Reconciler:
    """Reconciles the objects of the controllers' kinds. Thread-safe."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        queue: WorkQueue,
        controllers: Iterable[Controller],
        clock: Clock,
        *,
        progress_interval: float = PROGRESS_INTERVAL,
        observe: Observe = lambda *_: None,
        count_failure: CountFailure = lambda *_: None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._controllers = {controller.kind: controller for controller in controllers}
        cache.index_references(lambda obj: self._ask_all(lambda controller: controller.references(obj), obj))
        cache.add_index(lambda obj: self._ask_all(lambda controller: controller.index(obj), obj))
        self._clock = clock
        self._progress_interval = progress_interval
        self._observe = observe
        self._count_failure = count_failure
        self._internal_errors = InternalErrors(cluster, cache, clock, self._record_event)
        self._unread = UnreadChanges(cache, cluster.get)
        self._kinds = (*CHILD_KINDS, *self._controllers)
        self._actions = Actions(cluster, cache, clock, self._kinds)
        self._status_written: dict[str, float] = {}
        self._event_limit = EventLimit()
        self._logged_failures: dict[Key, str] = {}
        self._lock = threading.Lock()  # guards _event_limit

    # Input: watch events, reports, lists

    def handle(self, event: WatchEvent) -> None:
        """Apply a watch event to the cache, and enqueue the keys that it concerns. An object of which the
        event has only the metadata is enqueued, and read by a worker."""
        key, complete = Key.of(event.obj), self._unread.complete(event)
        if complete:
            self._take_in(complete)
        elif key in self._unread:
            self._queue.add(key)

    def _take_in(self, event: WatchEvent, but: Key | None = None) -> None:
        """Apply an event with a whole object, and enqueue the keys that it concerns, except ``but``."""
        if self._cache.apply(event):
            self._enqueue(event, but)
        elif event.type == "DELETED":  # a request of our own found the deletion earlier
            self._forget(uid_of(event.obj))

    def handle_report(self, report: Object) -> Future[None]:
        """Store a pod's report, a ``tunegate_api.contract.report.Report`` as JSON, and enqueue its job.

        The returned future is done when the report is in status: only then may the pod drop the report.
        Raises KeyError if the report lacks ``jobUid``, ``role`` or ``sequence``, and the other errors of
        ``ReportStore.put``.
        """
        store = self._cache.report_store
        is_new = store.put(report)
        promise = store.acknowledgement(report)
        owner = self._cache.by_uid(report["jobUid"])
        if owner is None:  # the job was deleted in the meantime
            store.forget(report["jobUid"])
        elif is_new or not promise.done():
            self._queue.add(Key.of(owner))
        return promise

    def resync(self, *kinds: str, namespace: str | None = None) -> None:
        """List these kinds, and apply the changes that the watches missed. Also fills the cache at start-up.

        Without ``kinds``, all kinds are listed; without ``namespace``, all namespaces. Raises ClusterError;
        changes that were applied before the error are kept.
        """
        for kind in kinds or self._kinds:
            since = self._cache.mark()
            listed = self._cluster.list_objects(kind, namespace)
            for event in self._cache.resync(kind, listed, since, namespace):
                self._enqueue(event)

    def _enqueue(self, event: WatchEvent, but: Key | None = None) -> None:
        changed = event.obj
        key = Key.of(changed)
        if event.type == "DELETED" and key.kind in self._controllers:
            self._forget(uid_of(changed))
        concerned = [key, *(owner.key for owner in self._cache.owners(changed))]
        concerned += self._ask_all(lambda controller: controller.concerns(changed, self._cache), changed)
        for one in concerned:
            if one.kind in self._controllers and one != but:
                self._queue.add(one)

    def _ask_all(self, ask: Callable[[Controller], Iterable[_Found]], obj: Object) -> list[_Found]:
        """Return what each controller relates to an object. A bug in one does not affect others."""
        found: list[_Found] = []
        for controller in self._controllers.values():
            try:
                found += ask(controller)
            except Exception:
                self._count_failure(controller.kind, Reason.INTERNAL_ERROR)
                kind, key = controller.kind, Key.of(obj)
                logger.exception("%s: internal error while finding the objects that %s concerns", kind, key)
        return found

    def _forget(self, uid: str) -> None:
        """Drop the reports of a deleted object, and the time of its last status write."""
        self._cache.report_store.forget(uid)
        self._status_written.pop(uid, None)

    # Output: actions, status, events

    def run_worker(self, stop: threading.Event) -> None:
        """Process keys until ``stop`` is set or the queue is shut down."""
        while not stop.is_set():
            key = self._queue.get(IDLE_SECONDS)
            if key is not None:
                self._process_and_release(key)

    def run_ready(self, limit: int = 1000) -> int:
        """Process keys in this thread until no key is ready. Returns the number of processed keys.

        Stops after ``limit`` keys, so that decisions which always lead to another decision cannot block the
        caller forever.
        """
        for count in range(limit):
            key = self._queue.get(0)
            if key is None:
                return count
            self._process_and_release(key)
        logger.warning("objects still need reconciliation after %d decisions", limit)
        return limit

    def _process_and_release(self, key: Key) -> None:
        try:
            self.process(key)
        finally:
            self._queue.done(key)

    def process(self, key: Key) -> None:
        """Reconcile one object. Any failure is retried after the key's backoff, without limit."""
        started = self._clock.monotonic()
        succeeded = False
        try:
            requeue_after = self._reconcile(key)
            succeeded = True
        except (ClusterError, UnreadableStatusError) as error:
            self._log_failure(key, error)
            self._count_failure(key.kind, _reason_of(error))
            self._queue.add_failed(key, outage=type(error) in OUTAGES)
        except Exception as error:  # a bug in the decision about one object must not affect the others
            logger.exception("%s %s/%s: internal error", key.kind, key.namespace, key.name)
            self._count_failure(key.kind, Reason.INTERNAL_ERROR)
            self._internal_errors.report(key, error)
            self._queue.add_failed(key)
        else:
            self._logged_failures.pop(key, None)
            self._internal_errors.forget(key)
            self._queue.forget(key)
            if requeue_after is not None:
                self._queue.add_after(key, requeue_after)
        finally:
            self._observe(key.kind, self._clock.monotonic() - started, succeeded)

    def _reconcile(self, key: Key) -> float | None:
        """Reconcile one object. Returns the seconds until the next reconciliation, or None."""
        obj = self._get(key)
        if obj is None:
            return None
        reports = self._cache.reports(uid_of(obj))
        decision = self._controllers[key.kind].decide(obj, self._cache, self._clock.now())
        if decision is None:  # it is being deleted: its pods need not wait for an acknowledgement
            self._cache.report_store.acknowledge(uid_of(obj), reports)
            self._cache.report_store.forget(uid_of(obj))
            return None
        decision = replace(decision, status=without_internal_error(decision.status))
        obj, done, failure = self._actions.carry_out(obj, decision.actions)
        throttled = None
        if done >= decision.needed_actions:
            throttled = self._write_status(key, obj, decision)
            for warning in decision.warnings:
                self._record_event(obj, warning)
        if isinstance(failure, TerminatingError):  # pods must not wait for reports that are never recorded
            self._cache.report_store.forget(uid_of(obj))
        if failure:
            if decision.requeue_after is not None:  # a deadline does not wait for the backoff
                self._queue.add_after(key, decision.requeue_after)
            raise failure
        if decision.releases:
            remove_finalizer(self._cluster, obj, decision.releases)
        is_logged = throttled is None and wire(decision.status) != (obj.get("status") or {})  # by writing it
        acts = decision.releases or any(not isinstance(action, LookUpEvents) for action in decision.actions)
        if acts and not is_logged:
            log_decision(logger, key, decision)
        if decision.acknowledges:
            self._cache.report_store.acknowledge(uid_of(obj), reports)
        if any(isinstance(action, LookUpEvents) for action in decision.actions):
            return 0
        return min((s for s in (decision.requeue_after, throttled) if s is not None), default=None)

    def _get(self, key: Key) -> Object | None:
        """Return an object, or None. If a watch reported a change without the content, read it first."""
        if key in self._unread:
            change = self._unread.read(key)
            if change is None:  # the watch reports the deletion
                return None
            self._take_in(change, but=key)
        return self._cache.get(key)

    def _write_status(self, key: Key, obj: Object, decision: Decision) -> float | None:
        """Write the status if it differs, then record the events.

        If only progress changed since a recent write, the write is postponed. Returns the seconds until it is
        due, or None if the write was not postponed.
        """
        uid = uid_of(obj)
        old, new = obj.get("status") or {}, wire(decision.status)
        if new == old:
            return None
        is_progress = is_progress_only(old, new, message_is_progress=decision.message_is_progress)
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
            self._actions.refresh(key)
            raise
        self._cache.put(written)
        self._status_written[uid] = self._clock.monotonic()
        log_decision(logger, key, decision)
        for event in decision.events:
            self._record_event(written, event)
        return None

    def _record_event(self, obj: Object, event: Event) -> None:
        """Record an event, unless it is a repeat that must wait. If this fails, log it: the occurrences are
        recorded with the next one, and the status has the same information."""
        what = (uid_of(obj), event.reason, event.message)
        with self._lock:
            count = self._event_limit.count(what, self._clock.monotonic())
        if count == 0:
            return
        try:
            self._cluster.record_event(obj, event.type, event.reason, event.message, count)
        except ClusterError as error:
            logger.warning("event %s not recorded: %s", event.reason, error)
            with self._lock:
                self._event_limit.give_back(what, count)

    def _log_failure(self, key: Key, error: Exception) -> None:
        """Log a failure when it first occurs, but not when a retry fails with the same message."""
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, ConflictError) or self._logged_failures.get(key) == message:
            logger.debug("%s %s/%s: %s", key.kind, key.namespace, key.name, message)
            return
        self._logged_failures[key] = message
        logger.warning("%s %s/%s: %s; retrying", key.kind, key.namespace, key.name, message)


def _reason_of(error: Exception) -> str:
    return "Unreachable" if type(error) is ClusterError else type(error).__name__.removesuffix("Error")
