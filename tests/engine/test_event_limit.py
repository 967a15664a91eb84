"""How often a repeated Event is written."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tunegate_operator.engine.event_limit import (
    FIRST_PAUSE,
    FIRST_RETRY_PAUSE,
    LONGEST_PAUSE,
    REMEMBERED_EVENTS,
    EventLimit,
)


def test_first_occurrence_of_each_event_is_written_at_once() -> None:
    limit = EventLimit()
    assert [limit.count(what, 0) for what in ("a", "b", "a", "b")] == [1, 1, 0, 0]


def test_pause_between_writes_of_one_event_doubles() -> None:
    limit = EventLimit()
    written = [at for at in range(0, 20_000, 5) if limit.count("a", at)]
    pauses = [after - before for before, after in itertools.pairwise(written)]
    assert pauses[:6] == [60, 120, 240, 480, 960, 1800]
    assert set(pauses[6:]) == {LONGEST_PAUSE}


def test_write_includes_the_occurrences_that_waited() -> None:
    limit = EventLimit()
    assert [limit.count("a", at) for at in (0, 10, 20, FIRST_PAUSE)] == [1, 0, 0, 3]


def test_event_repeated_after_a_long_time_is_written_at_once() -> None:
    limit = EventLimit()
    for at in range(0, 7200, 5):
        limit.count("a", at)
    last = 7195 + LONGEST_PAUSE
    assert limit.count("a", last) > 0
    assert limit.count("a", last + FIRST_PAUSE) > 0, "the pauses begin with the shortest again"


def test_occurrences_whose_write_failed_are_included_in_the_next_write() -> None:
    limit = EventLimit()
    assert [limit.count("a", at) for at in (0, 10, FIRST_PAUSE)] == [1, 0, 2]
    limit.give_back("a", 2)
    assert limit.count("a", FIRST_PAUSE + 2 * FIRST_RETRY_PAUSE) == 3


def test_pause_after_failed_writes_is_short_and_doubles() -> None:
    limit, written = EventLimit(), []
    for at in range(40):
        if occurrences := limit.count("a", at):
            written.append(at)
            limit.give_back("a", occurrences)
    assert written == [0, FIRST_RETRY_PAUSE, 3 * FIRST_RETRY_PAUSE, 7 * FIRST_RETRY_PAUSE]
    assert limit.count("a", LONGEST_PAUSE) == 41, "no occurrence is lost"


def test_oldest_events_are_forgotten() -> None:
    limit = EventLimit()
    for what in range(REMEMBERED_EVENTS + 1):
        assert limit.count(what, 0) == 1
    assert limit.count(1, 0) == 0
    assert limit.count(0, 0) == 1
    assert len(limit._known) == REMEMBERED_EVENTS


@given(st.lists(st.floats(0, 4000), max_size=60))
def test_no_occurrence_is_counted_twice_or_lost(pauses: list[float]) -> None:
    limit, now, written = EventLimit(), 0.0, 0
    for number, pause in enumerate(pauses, start=1):
        now += pause
        written += limit.count("a", now)
        assert 1 <= written <= number
    if pauses:
        assert written + limit.count("a", now + LONGEST_PAUSE + 1) == len(pauses) + 1
