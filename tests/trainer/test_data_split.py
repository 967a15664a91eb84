"""The split: disjoint, deterministic, and as large as asked for."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.verdict import MAX_CASES
from tunegate_trainer.data.split import Split, find_overlaps, join_groups, normalize, split_rows


@dataclass(frozen=True)
class Item:
    name: int
    group: str


grouped = st.lists(st.integers(0, 30), min_size=1, max_size=200).map(
    lambda groups: [Item(i, f"group-{g}") for i, g in enumerate(groups)]
)
fractions = st.fractions(min_value=Fraction(1, 20), max_value=Fraction(1, 2))


def sides(split: Split[Item]) -> dict[str, list[Item]]:
    return {"train": split.train, "dev": split.dev, "test": split.test}


@given(grouped, fractions, st.integers(0, 1000))
def test_every_row_is_on_one_side_and_every_group_too(items, fraction, seed):
    split = split_rows(items, fraction, seed)
    assert Counter(i.name for side in sides(split).values() for i in side) == Counter(i.name for i in items)
    assert find_overlaps({name: [i.group for i in side] for name, side in sides(split).items()}) == []


@given(grouped, fractions, st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(items, fraction, seed, random):
    shuffled = list(items)
    random.shuffle(shuffled)
    first, second = split_rows(items, fraction, seed), split_rows(shuffled, fraction, seed)
    for name in ("train", "dev", "test"):
        assert set(sides(first)[name]) == set(sides(second)[name])


@given(grouped, fractions, st.integers(0, 1000))
def test_no_more_is_held_away_than_asked_for(items, fraction, seed):
    split = split_rows(items, fraction, seed)
    assert len(split.dev) + len(split.test) <= round(fraction * len(items))


@given(st.integers(20, 400), st.integers(0, 1000))
def test_rows_of_their_own_are_held_away_exactly_half_in_each_part(count, seed):
    items = [Item(i, str(i)) for i in range(count)]
    split = split_rows(items, Fraction(1, 5), seed)
    assert len(split.dev) + len(split.test) == round(Fraction(1, 5) * count)
    assert len(split.dev) - len(split.test) in (0, 1)


def test_another_seed_is_another_split():
    items = [Item(i, str(i)) for i in range(100)]
    assert split_rows(items, Fraction(1, 5), 1).dev != split_rows(items, Fraction(1, 5), 2).dev


def test_a_row_added_moves_few_others():
    items = [Item(i, str(i)) for i in range(200)]
    before = set(split_rows(items, Fraction(1, 5), 1).train)
    after = set(split_rows([*items, Item(200, "200")], Fraction(1, 5), 1).train)
    assert len(before - after) <= 2


def test_held_out_rows_are_bounded_by_what_a_set_may_have():
    items = [Item(i, str(i)) for i in range(20_000)]
    split = split_rows(items, Fraction(1, 2), 1)
    assert (len(split.dev), len(split.test)) == (MAX_CASES, MAX_CASES)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=60), st.integers(0, 99)
)
def test_neither_a_prompt_nor_a_group_is_on_two_sides(pairs, seed):
    rows = [(f"group-{group}", f"prompt-{prompt}") for group, prompt in pairs]
    items = [Item(i, group) for i, group in enumerate(join_groups(rows))]
    split = sides(split_rows(items, Fraction(1, 3), seed))
    for which in (0, 1):
        assert (
            find_overlaps({name: [rows[i.name][which] for i in side] for name, side in split.items()}) == []
        )


def test_groups_that_share_no_prompt_are_not_joined():
    rows = [("a", "1"), ("b", "2"), ("a", "3"), ("c", "2"), ("d", "4")]
    assert join_groups(rows) == ["a", "b", "a", "b", "d"]


def test_an_overlap_is_found_and_named():
    assert find_overlaps({"train": ["a", "b"], "dev": ["b"], "test": ["c"]}) == ["'b' (dev, train)"]


def test_prompts_that_differ_in_nothing_that_matters_are_equal():
    assert normalize("  Two\tMUGS \n") == normalize("two mugs")
    assert normalize("①") == normalize("1")
    assert normalize("mug") != normalize("mugs")
