"""Which objects to look at next, in the manner of client-go's work queue."""

import heapq
import random
import threading
from collections import deque

from tunegate_operator.engine.backoff import backoff
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Key

FIRST_BACKOFF = 0.005
LONGEST_BACKOFF = 1000.0
"""Seconds between tries of a key that keeps failing: doubling from the first to the longest."""
LONGEST_OUTAGE_BACKOFF = 15.0
"""The longest backoff while the cluster is unavailable: so soon after an outage, every key is tried again."""
VOID_ENTRIES = 64
"""So many entries of the timetable may be void before it is made anew, and as many more as are not."""


class WorkQueue:
    """Thread-safe. A key waits at most once, and only one worker has it at a time.

    A key that is added while a worker has it comes again when the worker is done with it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._ready: deque[Key] = deque()
        self._waiting: set[Key] = set()  # in _ready, or to be put there by done()
        self._processing: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._timetable: list[tuple[float, Key]] = []  # a heap; entries that _due contradicts are void
        self._failures: dict[Key, tuple[float, int]] = {}  # of the last kind: longest backoff, count
        self._shut_down = False

    def add(self, key: Key) -> None:
        """Look at ``key`` as soon as a worker is free."""
        with self._changed:
            self._add(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Look at ``key`` after a while; the earliest of several such wishes wins."""
        with self._changed:
            if self._shut_down:
                return
            if seconds <= 0:
                self._add(key)
                return
            due = self._clock.monotonic() + seconds
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._timetable, (due, key))
                if len(self._timetable) > 2 * len(self._due) + VOID_ENTRIES:
                    self._timetable = [(due, key) for key, due in self._due.items()]
                    heapq.heapify(self._timetable)
                self._changed.notify()  # whoever waits may have to wake earlier

    def add_failed(self, key: Key, *, outage: bool = False) -> None:
        """Look at ``key`` again after its backoff, which doubles with each failure until :meth:`forget`.

        ``outage`` says that the cluster is unavailable, which is not the key's own failure. Its backoff is
        bounded by :data:`LONGEST_OUTAGE_BACKOFF`, and random between half of it and all, because an outage
        makes all keys fail at once. The first failure of the other kind starts at the shortest backoff again.
        """
        longest = LONGEST_OUTAGE_BACKOFF if outage else LONGEST_BACKOFF
        with self._changed:
            kind, failures = self._failures.get(key, (longest, 0))
            failures = failures if kind == longest else 0
            self._failures[key] = longest, failures + 1
        pause = backoff(FIRST_BACKOFF, longest, failures + 1)
        self.add_after(key, pause * random.uniform(0.5, 1) if outage else pause)

    def forget(self, key: Key) -> None:
        """Its next failure is a first one."""
        with self._changed:
            self._failures.pop(key, None)

    def failures(self, key: Key) -> int:
        """Failures in a row, of the last kind."""
        with self._changed:
            return self._failures.get(key, (0.0, 0))[1]

    def get(self, timeout: float | None) -> Key | None:
        """The next key, or None after ``timeout`` seconds or once shut down; call :meth:`done` with it."""
        with self._changed:
            deadline = None if timeout is None else self._clock.monotonic() + timeout
            while not self._shut_down:
                now = self._clock.monotonic()
                self._add_due(now)
                if self._ready:
                    return self._take()
                if deadline is not None and now >= deadline:
                    return None
                times = [t for t in (deadline, self._timetable[0][0] if self._timetable else None) if t]
                self._changed.wait(min(times) - now if times else None)
            return None

    def done(self, key: Key) -> None:
        """A worker is through with ``key``."""
        with self._changed:
            self._processing.discard(key)
            if key in self._waiting:
                self._ready.append(key)
                self._changed.notify()

    def next_due(self) -> float | None:
        """Seconds until the next delayed key is due; 0 when one is ready now, None when none is known."""
        with self._changed:
            now = self._clock.monotonic()
            self._add_due(now)
            if self._ready:
                return 0.0
            return self._timetable[0][0] - now if self._timetable else None

    def shut_down(self) -> None:
        """Hand out no more keys, and wake whoever waits for one."""
        with self._changed:
            self._shut_down = True
            self._changed.notify_all()

    def _add(self, key: Key) -> None:
        if self._shut_down or key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._processing:
            self._ready.append(key)
            self._changed.notify()

    def _take(self) -> Key:
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._processing.add(key)
        # Whoever processes it now says anew when to look again.
        self._due.pop(key, None)
        return key

    def _add_due(self, now: float) -> None:
        """Move what is due to the ready keys, and leave a valid entry, if any, on top of the heap."""
        while self._timetable:
            due, key = self._timetable[0]
            if self._due.get(key) == due:
                if due > now:
                    return
                del self._due[key]
                self._add(key)
            heapq.heappop(self._timetable)
