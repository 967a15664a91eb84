"""The check near_equal_pairs finds pairs whose answers are almost equal, and no pairs that express a
preference."""

import json
from fractions import Fraction

import pytest

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_trainer.checks import near_equal_pairs
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES
from tunegate_trainer.checks.near_equal_pairs import difference
from tunegate_trainer.checks.share_finding import REPORTED

LONG = "The parcel with the desk lamp left our warehouse and will arrive at the address on the label."
FORMAT_ALONE = "they differ only in case, white space or punctuation"


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("Yes", "yes.", FORMAT_ALONE),
        ("C", "“C”", FORMAT_ALONE),
        ("Three mugs, please!", "three  mugs please", FORMAT_ALONE),
        ("はい。", "はい", FORMAT_ALONE),
        (LONG, LONG.upper(), FORMAT_ALONE),
        (LONG, LONG.replace("desk ", ""), "they differ in 1 of 18 words"),
        (LONG.replace("lamp", "lamp probably"), LONG, "they differ in 1 of 19 words"),
        (LONG, LONG.replace("parcel", "pacrel"), "they differ in 1 of 18 words"),
        ('{"a": 1, "b": [2]}', '{\n  "b": [2],\n  "a": 1\n}', "they are the same JSON value"),
    ],
)
def test_answers_that_are_almost_equal_are_found(chosen, rejected, expected):
    assert difference(chosen, rejected) == difference(rejected, chosen) == expected


def test_two_percent_of_a_long_answers_words_may_differ():
    words = [f"word{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}" for i in range(100)]
    without = [word for i, word in enumerate(words) if i not in (7, 70)]
    assert difference(" ".join(words), " ".join(without)) == "they differ in 2 of 100 words"
    assert difference(" ".join(words), " ".join(without[:-1])) is None


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("yes", "no"),
        ("positive", "negative"),
        ("order-17", "order-18"),
        ("3.14", "314"),
        ("-5", "5"),
        (":)", ":("),
        ("!", "?"),
        ("a < b", "a > b"),
        (f"{LONG} Total: 41", f"{LONG} Total: 42"),
        (f"{LONG} It is case A17.", f"{LONG} It is case."),
        (f"{LONG} It is broken.", f"{LONG} It is not broken."),
        (f"{LONG} It is broken.", f"{LONG} It isn't broken."),
        (f"{LONG} The review is positive.", f"{LONG} The review is negative."),
        (f"{LONG} This is safe.", f"{LONG} This is unsafe."),
        (f"{LONG} x = a - b", f"{LONG} x = a b"),
        (f"- {LONG}\n- **{LONG}**", f"{LONG} {LONG}"),
        (json.dumps({"text": LONG, "label": "late"}), json.dumps({"text": LONG, "label": "lately"})),
        (json.dumps({"text": LONG}), json.dumps({"text": LONG})[:-1]),
        ('{"a": 1, "b": [2]}', '{"a": 1., "b": [2]}'),
        (LONG * 2, LONG.replace("parcel", "parcels") * 2),
        (LONG, LONG.replace("desk ", "").replace("our ", "")),
        (LONG, f"{LONG} {'label' * 12}"),
        (f"{LONG} Call order17a.", f"{LONG} Call order18a."),
        (LONG, "Sorry about the lamp."),
    ],
)
def test_answers_that_express_a_preference_are_not_found(chosen, rejected):
    assert difference(chosen, rejected) is difference(rejected, chosen) is None


def test_finding_has_count_share_lines_and_remedy():
    pairs = [
        {"prompt": f"{i}", "chosen": "yes", "rejected": "Yes" if i in (1, 3) else "no"} for i in range(8)
    ]
    (finding,) = near_equal_pairs.run(usable_rows(pairs=pairs), NO_CONTEXT)
    assert (finding.count, finding.share) == (2, Fraction(1, 4))
    assert finding.examples == [f"line {line} of preference: {FORMAT_ALONE}" for line in (2, 4)]
    assert finding.message.startswith(
        "2 of 8 pairs have a chosen answer that is almost equal to the rejected one: line 2 of preference: "
    )
    entries = [{"source": "preference", "line": line, "reason": FORMAT_ALONE} for line in (2, 4)]
    assert finding.report == {"near_equal_pairs": entries}


def test_number_of_reported_pairs_is_limited():
    pairs = [{"prompt": f"{i}", "chosen": "yes", "rejected": "Yes"} for i in range(REPORTED + 1)]
    (finding,) = near_equal_pairs.run(usable_rows(pairs=pairs), NO_CONTEXT)
    assert finding.count == REPORTED + 1
    assert len(finding.report["near_equal_pairs"]) == REPORTED
    assert finding.message.endswith(f"; and {REPORTED + 1 - SHOWN_EXAMPLES} more")
