"""Random judgements are those of the day on which their results were stored."""

from collections.abc import Mapping, Sequence

import pytest

from support.judgements.corpus import BLOCK, Block, changed_random, intended, random_block, read_random
from support.judgements.random_jobs import COUNT

EVERY = 20
"""One of this many blocks is judged by `make test`, and the others by `make test-exhaustive`."""


@pytest.fixture(scope="module")
def stored() -> Sequence[Block]:
    return read_random()


def numbers(*, sampled: bool) -> list[int]:
    return [n for n in range(COUNT // BLOCK) if (n % EVERY == 0) is sampled]


def test_every_random_judgement_is_stored(stored):
    assert [len(block.judgements) for block in stored] == [BLOCK] * (COUNT // BLOCK)


@pytest.mark.parametrize("number", numbers(sampled=True))
def test_sampled_random_judgements_change_only_as_intended(number, stored):
    assert_same(stored[number])


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", numbers(sampled=False))
def test_other_random_judgements_change_only_as_intended(number, stored):
    assert_same(stored[number])


def assert_same(block: Block) -> None:
    found = random_block(block.first)
    assert found.inputs == block.inputs, "the random records changed, not the code that judges them"
    changed = changed_random(block, found)
    here = {str(block.first + i) for i in range(BLOCK)}
    listed = {name: new for name, new in intended().items() if name in here}
    unintended = {name: pair for name, pair in changed.items() if listed.get(name) != pair[1].split()[-1]}
    assert not unintended, _shown(unintended)
    assert listed.keys() == changed.keys(), "a judgement in differences.json is the same as before"
    if not changed:
        assert found.words == block.words, "messages changed: make judgement-words stores them"


def _shown(changed: Mapping[str, tuple[str, str]]) -> str:
    lines = [f"{number}: {was}, now {now}" for number, (was, now) in changed.items()]
    help_text = "See both results: python -m support.judgements show NUMBER, in tests/ of both versions"
    return "\n  ".join([f"{len(changed)} judgements changed:", *lines, help_text])
