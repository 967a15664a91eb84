"""A work queue with delays and backoff, like client-go's, in which namespaces take turns. Its items are the
keys of objects to reconcile."""

import heapq
import random
import threading

from tunegate_api.backoff import backoff
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Key
from tunegate_operator.engine.turns import NamespaceTurns

FIRST_BACKOFF, LONGEST_BACKOFF = 0.005, 1000.0
"""The shortest and the longest time between retries of a key, in seconds. The time doubles with each
consecutive failure."""
LONGEST_OUTAGE_BACKOFF = 15.0
"""The longest time between retries while the cluster is unavailable, in seconds. After an outage, every key
is retried within this time."""
STALE_ENTRIES = 64
"""How many more stale entries than current entries the heap of delayed keys may have. With more, it is
rebuilt."""


class WorkQueue:
    """A queue that contains each key at most once. Only one worker processes a key at a time. Thread-safe.

    If a key is added while a worker processes it, it is queued again when the worker is done. Namespaces take
    turns, so a namespace with many keys does not delay the keys of others. Workers process at most
    ``at_once`` keys of one namespace at the same time, without limit if it is None.
    """

    def __init__(self, clock: Clock, *, at_once: int | None = None) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._ready = NamespaceTurns(at_once)
        self._waiting: set[Key] = set()  # in _ready, or to be put there by done()
        self._processing: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._delayed: list[tuple[float, Key]] = []  # a heap; entries that _due contradicts are stale
        self._failures: dict[Key, tuple[float, int]] = {}  # of the last kind: longest backoff, count
        self._shut_down = False

    def add(self, key: Key) -> None:
        """Queue ``key`` for the next free worker."""
        with self._changed:
            self._add(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Queue ``key`` after a delay. If several delays are set, the key is queued at the earliest time."""
        with self._changed:
            if self._shut_down:
                return
            if seconds <= 0:
                self._add(key)
                return
            due = self._clock.monotonic() + seconds
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._delayed, (due, key))
                if len(self._delayed) > 2 * len(self._due) + STALE_ENTRIES:
                    self._delayed = [(due, key) for key, due in self._due.items()]
                    heapq.heapify(self._delayed)
                self._changed.notify()  # a waiting worker may have to wake earlier

    def add_failed(self, key: Key, *, outage: bool = False) -> None:
        """Queue ``key`` again after its backoff, which doubles with each failure until :meth:`forget`.

        Set ``outage`` if the key failed because the cluster is unavailable. The backoff is then at most
        :data:`LONGEST_OUTAGE_BACKOFF`, and is randomly shortened by up to half, so that the keys, which all
        failed at once, are not all retried at once. When outages start or end, the backoff is reset.
        """
        longest = LONGEST_OUTAGE_BACKOFF if outage else LONGEST_BACKOFF
        with self._changed:
            kind, failures = self._failures.get(key, (longest, 0))
            failures = failures if kind == longest else 0
            self._failures[key] = longest, failures + 1
        pause = backoff(FIRST_BACKOFF, longest, failures + 1)
        self.add_after(key, pause * random.uniform(0.5, 1) if outage else pause)

    def forget(self, key: Key) -> None:
        """Reset the backoff of ``key``."""
        with self._changed:
            self._failures.pop(key, None)

    def failures(self, key: Key) -> int:
        """Return how often ``key`` has failed since its backoff was last reset."""
        with self._changed:
            return self._failures.get(key, (0.0, 0))[1]

    def get(self, timeout: float | None) -> Key | None:
        """Wait for the next key and return it, or None after ``timeout`` seconds or at shutdown.

        The caller must call :meth:`done` with the key after processing it."""
        with self._changed:
            deadline = None if timeout is None else self._clock.monotonic() + timeout
            while not self._shut_down:
                now = self._clock.monotonic()
                self._add_due(now)
                if self._ready:
                    return self._take()
                if deadline is not None and now >= deadline:
                    return None
                times = [t for t in (deadline, self._delayed[0][0] if self._delayed else None) if t]
                self._changed.wait(min(times) - now if times else None)
            return None

    def done(self, key: Key) -> None:
        """Finish processing ``key``. If it was added in the meantime, it is queued again."""
        with self._changed:
            if key not in self._processing:
                return
            self._processing.discard(key)
            self._ready.release(key)
            if key in self._waiting:
                self._ready.put(key)
            if self._ready:
                self._changed.notify()

    def depth(self) -> int:
        """Return the number of keys that wait for a worker, without delayed ones."""
        with self._changed:
            return len(self._waiting)

    def shut_down(self) -> None:
        """Make :meth:`get` return None from now on, and wake waiting workers."""
        with self._changed:
            self._shut_down = True
            self._changed.notify_all()

    def _add(self, key: Key) -> None:
        if self._shut_down or key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._processing:
            self._ready.put(key)
            self._changed.notify()

    def _take(self) -> Key:
        key = self._ready.take()
        self._waiting.discard(key)
        self._processing.add(key)
        # Processing the key now replaces the delay: its decision sets a new one.
        self._due.pop(key, None)
        return key

    def _add_due(self, now: float) -> None:
        """Move due keys to the ready keys, and remove stale entries from the top of the heap."""
        while self._delayed:
            due, key = self._delayed[0]
            if self._due.get(key) == due:
                if due > now:
                    return
                del self._due[key]
                self._add(key)
            heapq.heappop(self._delayed)
