"""The judgements of the other tests are those of the day on which they were recorded."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import pytest

from support.judgements.corpus import Recorded, differences, intended, read_recorded
from support.judgements.judged import judged

SHOWN = 10


@pytest.fixture(scope="module")
def judged_again() -> Sequence[tuple[Recorded, Any, Mapping[str, str]]]:
    return [(each, *judged(each.record)) for each in read_recorded()]


def test_recorded_judgements_change_only_as_intended(judged_again):
    changed = {
        each.id: list(islice(differences(each.result, result), SHOWN))
        for each, result, _ in judged_again
        if result != each.result
    }
    expected = {name for name in intended() if not name.isdigit()}
    unintended = {name: found for name, found in changed.items() if name not in expected}
    assert not unintended, _shown(unintended)
    assert expected <= changed.keys(), "a judgement in differences.json is the same as before"


def test_messages_of_recorded_judgements_are_unchanged(judged_again):
    changed = {
        each.id: list(islice(differences(each.words, words), SHOWN))
        for each, result, words in judged_again
        if result == each.result and words != each.words
    }
    assert not changed, (
        f"store the messages with `make judgement-words`, if they are meant\n{_shown(changed)}"
    )


def _shown(changed: Mapping[str, Sequence[str]]) -> str:
    lines = [line for name, found in islice(changed.items(), SHOWN) for line in (name, *found)]
    return "\n  ".join([f"{len(changed)} judgements changed:", *lines])
