"""The checks of preference pairs find the faults that are added to documentation and to the committed sets,
and nothing in clean pairs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.data_faults.pairs import (
    equal_after_truncation,
    equal_answers,
    length_bias,
    near_equal_answers,
    repeated_rejected,
)
from support.data_faults.phrases import STOCK_ANSWERS
from support.fault_measure import Counts, compare
from support.fault_sets import clean_pairs, texts
from support.usable_rows import NO_CONTEXT, usable_of, usable_pairs
from tunegate_trainer.checks import CHECKS, SETTINGS
from tunegate_trainer.checks.finding import Finding

SETS = Path(__file__).parent / "sets"
EXAMPLE = Path(__file__).parents[3] / "examples/dpo-after-sft/data.yaml"
Pairs = Sequence[dict[str, str]]


def findings(pairs: Pairs) -> dict[str, Finding]:
    """Return what the checks of the field pairs find, by check."""
    usable = usable_of([], usable_pairs(*pairs))
    return {
        check.NAME: finding
        for check in CHECKS.usable
        if SETTINGS.get(check.NAME) == "Pairs"
        for finding in check.run(usable, NO_CONTEXT)
    }


def near_equal_lines(found: dict[str, Finding]) -> set[int]:
    return {entry["line"] for entry in found["near_equal_pairs"].report["near_equal_pairs"]}


@pytest.fixture(scope="module")
def clean() -> tuple[dict[str, str], ...]:
    return clean_pairs()


@pytest.fixture(scope="module")
def more() -> list[str]:
    return [text["text"] for text in texts()]


def test_nothing_is_found_in_clean_pairs_and_in_the_example(clean):
    assert findings(clean) == {}
    example = yaml.safe_load(EXAMPLE.read_text())["data"]["preference.jsonl"]
    assert findings([json.loads(line) for line in example.splitlines()]) == {}


@pytest.mark.parametrize("inject", [near_equal_answers, equal_answers])
def test_near_equal_pairs_are_found_with_their_lines(clean, inject):
    injected = inject(clean, count=100)
    found = findings(injected.rows)
    usable = {pair.labelled.place.number for pair in usable_pairs(*injected.rows)}
    counts: Counts = compare(near_equal_lines(found), injected.faulty & usable)
    assert found.keys() == {"near_equal_pairs"}
    assert counts.right >= 40
    assert counts.precision == 1
    assert counts.recall >= 0.95


@pytest.mark.parametrize(("share", "checks"), [(0.5, set()), (0.8, {"length_bias"}), (0.95, {"length_bias"})])
def test_length_bias_is_found_if_most_pairs_have_it(clean, more, share, checks):
    assert findings(length_bias(clean, share=share, more=more).rows).keys() == checks


@pytest.mark.parametrize(("share", "count"), [(0.3, 0), (0.6, 156), (0.9, 234)])
def test_stock_rejected_answers_are_found_if_most_pairs_have_one(clean, share, count):
    found = findings(repeated_rejected(clean, share=share).rows).get("similar_rejections")
    assert (found.count if found else 0) == count
    if found:
        assert {one["answer"] for one in found.report["similar_rejections"]} == set(STOCK_ANSWERS)


def test_different_ends_after_a_long_shared_text_are_no_fault(clean, more):
    injected: Any = equal_after_truncation(clean, words=200, count=100, more=more)
    assert findings(injected.rows) == {}


@pytest.mark.parametrize(
    ("name", "check"), [("pairs", "near_equal_pairs"), ("pairs_length_bias", "length_bias")]
)
def test_each_committed_set_of_pairs_has_only_its_fault(name, check):
    pairs = [json.loads(line) for line in (SETS / name / "pairs.jsonl").read_text().splitlines()]
    found = findings(pairs)
    expected = yaml.safe_load((SETS / name / "expected.yaml").read_text())
    assert found.keys() == {check}
    if "lines" in expected:
        assert near_equal_lines(found) == set(expected["lines"])
    else:
        assert found[check].count >= expected["rows"]
