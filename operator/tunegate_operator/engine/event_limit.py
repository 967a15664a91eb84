"""Limit how often a repeated Event is written, as the event correlator of client-go does."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from tunegate_api.backoff import backoff

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 1800.0
"""Seconds between writes of the same Event. The pause doubles with each write. The longest pause is shorter
than the hour for which an API server keeps Events, so an Event that repeats stays visible."""
FIRST_RETRY_PAUSE = 5.0
"""Seconds between a write that failed and the next write of the same Event. This pause doubles, too."""
REMEMBERED_EVENTS = 4096
"""Maximum number of different Events whose repeats are limited. A repeat of an older Event is written at
once."""


@dataclass
class _Written:
    """The writes of one Event, and its occurrences since the last write."""

    at: float
    writes: int
    last_seen: float
    unwritten: int = 0
    has_failed: bool = False
    """Whether the last write failed."""

    @property
    def pause(self) -> float:
        """Return the seconds between the last write and the next one."""
        return backoff(FIRST_RETRY_PAUSE if self.has_failed else FIRST_PAUSE, LONGEST_PAUSE, self.writes)


class EventLimit:
    """Decides which occurrences of Events are written. Not thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, _Written] = OrderedDict()

    def count(self, what: Hashable, now: float) -> int:
        """Count an occurrence of the Event ``what`` at the monotonic time ``now``. Return the number of
        occurrences to write, including earlier ones that were not written; 0 if nothing is to be written.

        The first occurrence is written at once, and also the first after :data:`LONGEST_PAUSE` without any.
        """
        known = self._known.get(what)
        if known is None or now - known.last_seen >= LONGEST_PAUSE:
            occurrences = 1 + (known.unwritten if known else 0)
            self._known[what] = _Written(at=now, writes=1, last_seen=now)
        elif now - known.at >= known.pause:
            occurrences = 1 + known.unwritten
            self._known[what] = _Written(at=now, writes=known.writes + 1, last_seen=now)
        else:
            occurrences = 0
            known.unwritten += 1
            known.last_seen = now
        self._known.move_to_end(what)
        if len(self._known) > REMEMBERED_EVENTS:
            self._known.popitem(last=False)
        return occurrences

    def give_back(self, what: Hashable, occurrences: int) -> None:
        """Take back the occurrences that :meth:`count` returned, because their write failed. They are
        included in the next write, which is due after a shorter pause."""
        known = self._known.get(what)
        if known:
            known.unwritten += occurrences
            known.has_failed = True
