"""The split into train, dev and test is disjoint, depends on a hash of each group, and has about the
requested sizes."""

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.verdict.outcomes import MAX_CASES
from tunegate_trainer.data.split import (
    SIDES,
    Split,
    find_overlaps,
    group_key,
    group_of,
    hash_position,
    join_groups,
    normalize,
    side_by_hash,
    split_rows,
    text_key,
)


@dataclass(frozen=True)
class Item:
    name: int
    group: str


grouped = st.lists(st.integers(0, 30), min_size=1, max_size=200).map(
    lambda groups: [Item(i, group_of(f"group-{g}")) for i, g in enumerate(groups)]
)
fractions = st.fractions(min_value=Fraction(1, 20), max_value=Fraction(1, 2))


def sides(split: Split[Item]) -> dict[str, list[Item]]:
    return {"train": split.train, "dev": split.dev, "test": split.test}


@given(grouped, fractions)
def test_every_row_and_group_is_in_exactly_one_split(items, fraction):
    split = split_rows(items, fraction)
    assert Counter(i.name for side in sides(split).values() for i in side) == Counter(i.name for i in items)
    assert find_overlaps({name: [i.group for i in side] for name, side in sides(split).items()}) == []


@given(grouped, fractions, st.randoms(use_true_random=False))
def test_split_does_not_depend_on_the_order_of_rows(items, fraction, random):
    shuffled = list(items)
    random.shuffle(shuffled)
    first, second = split_rows(items, fraction), split_rows(shuffled, fraction)
    for name in SIDES:
        assert set(sides(first)[name]) == set(sides(second)[name])


@given(grouped, fractions)
def test_dev_and_test_have_at_most_twice_their_requested_size(items, fraction):
    split = split_rows(items, fraction)
    assert len(split.dev) <= fraction * len(items)
    assert len(split.test) <= fraction * len(items)


@given(st.integers(2, 400), fractions, st.integers(0, 10**6))
def test_dev_and_test_have_at_least_half_their_requested_size(count, fraction, first):
    items = [Item(i, group_of(str(first + i))) for i in range(count)]
    split = split_rows(items, fraction)
    least = fraction * count / 4 if fraction * count >= 1 else 0
    assert len(split.dev) >= least
    assert len(split.test) >= least


def test_fraction_of_held_out_rows_is_near_the_requested_fraction():
    items = [Item(i, group_of(f"order {i}")) for i in range(5000)]
    split = split_rows(items, Fraction(12, 100))
    assert 240 < len(split.dev) < 360
    assert 240 < len(split.test) < 360


def test_rows_keep_their_splits_when_data_grows():
    versions = [[Item(i, group_of(f"order {i}")) for i in range(count)] for count in (200, 300, 900)]
    splits = [sides(split_rows(items, Fraction(12, 100))) for items in versions]
    for side in SIDES:
        first, second, third = (set(split[side]) for split in splits)
        assert first < second < third


def test_empty_dev_split_gets_the_group_with_the_lowest_hash():
    items = [Item(i, group_of(f"order {i}")) for i in range(10)]
    fraction = Fraction(1, 5)
    assert {side_by_hash(item.group, fraction) for item in items} == {"train", "test"}, "none is in dev"
    split = split_rows(items, fraction)
    (filled,) = split.dev
    assert filled.group == min((item.group for item in items), key=hash_position)


def test_larger_held_out_fraction_keeps_earlier_held_out_rows():
    items = [Item(i, group_of(f"order {i}")) for i in range(1000)]
    small, large = split_rows(items, Fraction(1, 10)), split_rows(items, Fraction(3, 20))
    assert set(small.dev) < set(large.dev)
    assert set(small.test) < set(large.test)


def test_hash_of_a_group_is_the_same_in_every_release():
    positions = [hash_position(group_of(text)) for text in ("order 1", "", "\u00fcber")]
    assert positions == [3252259947749250353, 13123884712988795603, 15743172782183094323]


def test_key_of_a_group_is_that_of_its_text():
    assert group_key(group_of("order 1")) == text_key("order 1")


def test_group_too_large_for_dev_and_test_is_trained_on():
    items = [Item(i, group_of("everybody")) for i in range(50)]
    items += [Item(100 + i, group_of(str(i))) for i in range(50)]
    split = split_rows(items, Fraction(1, 5))
    assert all(item.group != group_of("everybody") for item in [*split.dev, *split.test])


@given(
    grouped,
    fractions,
    st.dictionaries(st.integers(0, 30).map(lambda g: group_of(f"group-{g}")), st.sampled_from(SIDES)),
)
def test_groups_keep_the_split_already_assigned_to_them(items, fraction, placed):
    split = split_rows(items, fraction, placed)
    for side in SIDES:
        assert all(placed.get(item.group, side) == side for item in sides(split)[side])


def test_dev_and_test_have_at_most_max_cases_rows():
    items = [Item(i, group_of(str(i))) for i in range(20_000)]
    split = split_rows(items, Fraction(1, 2))
    assert (len(split.dev), len(split.test)) == (MAX_CASES, MAX_CASES)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=60))
def test_joining_groups_keeps_each_prompt_and_group_in_one_split(pairs):
    rows = [(group_of(f"group-{group}"), f"prompt-{prompt}") for group, prompt in pairs]
    items = [Item(i, group) for i, group in enumerate(join_groups(rows))]
    split = sides(split_rows(items, Fraction(1, 3)))
    for which in (0, 1):
        assert (
            find_overlaps({name: [rows[i.name][which] for i in side] for name, side in split.items()}) == []
        )


def test_only_groups_that_share_a_prompt_are_joined():
    rows = [("a", "1"), ("b", "2"), ("a", "3"), ("c", "2"), ("d", "4")]
    assert join_groups(rows) == ["a", "b", "a", "b", "d"]


def test_joined_groups_are_in_dev_as_often_as_in_test():
    rows = [(group_of(str(i)), f"prompt-{i // 5}") for i in range(10_000)]
    split = split_rows([Item(i, group) for i, group in enumerate(join_groups(rows))], Fraction(1, 10))
    assert 400 < len(split.dev) < 600
    assert 400 < len(split.test) < 600


def test_text_in_two_splits_is_returned_with_both_splits():
    assert find_overlaps({"train": ["a", "b"], "dev": ["b"], "test": ["c"]}) == ["'b' (dev, train)"]


def test_normalize_ignores_case_white_space_and_unicode_forms():
    assert normalize("  Two\tMUGS \n") == normalize("two mugs")
    assert normalize("①") == normalize("1")
    assert normalize("mug") != normalize("mugs")


labelled = st.lists(st.integers(0, 60), min_size=1, max_size=5).map(
    lambda counts: [
        Item(1000 * label + i, group_of(f"{label} {i}")) for label, n in enumerate(counts) for i in range(n)
    ]
)


@given(labelled.filter(bool), fractions)
def test_every_label_of_ten_rows_is_in_dev_and_test(items, fraction):
    label_of = {item.group: str(item.name // 1000) for item in items}
    split = sides(split_rows(items, fraction, strata=label_of))
    counts = Counter(label_of.values())
    least = {label: max(1, math.ceil(fraction * n / 4)) for label, n in counts.items() if n >= 10}
    for side in ("dev", "test"):
        found = Counter(label_of[item.group] for item in split[side])
        if sum(least.values()) <= fraction * len(items) / 2:
            assert all(found[label] >= n for label, n in least.items())
        assert all(found[label] <= max(1, fraction * counts[label]) for label in least)


@given(labelled.filter(bool), fractions)
def test_labels_do_not_hold_out_more_rows_than_the_fraction(items, fraction):
    label_of = {item.group: str(item.name // 1000) for item in items}
    split, without = split_rows(items, fraction, strata=label_of), split_rows(items, fraction)
    for side in ("dev", "test"):
        assert len(split.side(side)) <= max(fraction * len(items) / 2, len(without.side(side)))


@pytest.mark.parametrize(
    ("rows", "labels", "size"),
    [
        (240, 24, 1),
        (1000, 100, 1),
        (1000, 100, 2),
        (1000, 40, 5),
        (1000, 4, 30),
        (1980, 10, 30),
        (1920, 20, 12),
        (2000, 200, 5),
    ],
)
def test_groups_of_many_labels_are_held_out_near_the_fraction(rows, labels, size):
    fraction = Fraction(12, 100)
    found, without = 0, 0
    for version in range(20):
        items = [Item(i, group_of(f"{version} {i // size}")) for i in range(rows)]
        label_of = {item.group: str(item.name // size % labels) for item in items}
        split = split_rows(items, fraction, strata=label_of)
        for side in (split.dev, split.test):
            assert fraction * rows / 4 <= len(side) <= fraction * rows
        found += len(split.dev) + len(split.test)
        split = split_rows(items, fraction)
        without += len(split.dev) + len(split.test)
    assert without <= found <= 1.25 * without


def test_rows_of_labels_keep_their_splits_when_data_grows():
    label_of = {group_of(f"order {i}"): str(i % 5) for i in range(4000)}
    versions = [[Item(i, group_of(f"order {i}")) for i in range(count)] for count in (3000, 3100, 4000)]
    splits = [sides(split_rows(items, Fraction(12, 100), strata=label_of)) for items in versions]
    for side in SIDES:
        first, second, third = (set(split[side]) for split in splits)
        assert first < second < third


def test_only_group_of_a_label_stays_in_training():
    items = [Item(i, group_of(f"order {i}")) for i in range(300)]
    items += [Item(1000 + i, group_of("others")) for i in range(12)]
    label_of = {item.group: str(item.name // 1000) for item in items}
    assert side_by_hash(group_of("others"), Fraction(12, 100)) == "train"
    split = split_rows(items, Fraction(12, 100), strata=label_of)
    assert Counter(label_of[item.group] for item in split.train)["1"] == 12


def test_frequent_label_yields_rows_if_rare_ones_fill_splits():
    items = [Item(i, group_of(str(i))) for i in range(20_000)]
    label_of = {item.group: str(min(item.name // 10, 20)) for item in items}
    split = split_rows(items, Fraction(1, 2), strata=label_of)
    for side in (split.dev, split.test):
        assert len(side) == MAX_CASES
        assert len({label_of[item.group] for item in side}) == 21


@given(grouped, fractions)
def test_labels_do_not_tear_groups_apart(items, fraction):
    strata = {item.group: str(item.name % 3) for item in items}
    split = split_rows(items, fraction, strata=strata)
    assert find_overlaps({name: [i.group for i in side] for name, side in sides(split).items()}) == []
    assert max(len(split.dev), len(split.test)) <= max(3, fraction * len(items))
