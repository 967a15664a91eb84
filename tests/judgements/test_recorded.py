"""The judgements of the other tests are those of the day on which they were recorded."""

from collections.abc import Mapping, Sequence
from itertools import islice

import pytest

from support.judgements.corpus import differences, intended, read_recorded, short_digest
from support.judgements.judged import judged

SHOWN = 10


@pytest.fixture(scope="module")
def judged_again():
    """Each recorded judgement with its result and its messages of today."""
    return [(each, *judged(each.record)) for each in read_recorded()]


def test_recorded_judgements_change_only_as_intended(judged_again):
    changed = {each.id: (each, result) for each, result, _ in judged_again if result != each.result}
    listed = {name: new for name, new in intended().items() if not name.isdigit()}
    unintended = {
        name: list(islice(differences(each.result, result), SHOWN))
        for name, (each, result) in changed.items()
        if listed.get(name) != short_digest(result)
    }
    assert not unintended, _shown(unintended)
    assert listed.keys() == changed.keys(), "a judgement in differences.json is the same as before"


def test_messages_of_recorded_judgements_are_unchanged(judged_again):
    changed = {
        each.id: list(islice(differences(each.words, words), SHOWN))
        for each, result, words in judged_again
        if result == each.result and words != each.words
    }
    assert not changed, f"{_shown(changed)}\nIf these messages are meant, store them: make judgement-words"


def _shown(changed: Mapping[str, Sequence[str]]) -> str:
    lines = [line for name, found in islice(changed.items(), SHOWN) for line in (name, *found)]
    return "\n  ".join([f"{len(changed)} judgements changed:", *lines])
