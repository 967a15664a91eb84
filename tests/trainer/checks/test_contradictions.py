"""The check contradictions finds equal prompts with different labels, and opposite preferences."""

from fractions import Fraction

import pytest

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_trainer.checks import contradictions

LABELLED = [{"prompt": f"Is {i} odd?", "completion": ("no", "yes")[i % 2]} for i in range(20)]


def found(rows=(), pairs=()):
    return list(contradictions.run(usable_rows(rows, pairs), NO_CONTEXT))


@pytest.mark.parametrize("prompt", ["Is 7 odd?", "is  7 ODD?"])
def test_equal_prompts_with_different_labels_are_reported_with_both_lines(prompt):
    (finding,) = found([*LABELLED, {"prompt": prompt, "completion": "no"}])
    assert (finding.count, finding.share) == (2, Fraction(2, 21))
    assert finding.message == (
        "the data has 2 rows with equal prompts and different labels: line 8 has the label "
        "'yes', but line 21 has the label 'no'"
    )
    assert finding.report == {"contradictions": list(finding.examples)}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Is 7 odd?", "completion": "Yes"},
        {"prompt": "Is 7 even?", "completion": "no"},
        {"prompt": "Is 7 odd?", "completion": "It depends on what you mean by odd."},
    ],
    ids=["same label", "other prompt", "no label"],
)
def test_rows_that_do_not_contradict_labels_are_not_reported(row):
    assert found([*LABELLED, *LABELLED, row]) == []


def test_equal_questions_with_different_system_turns_do_not_contradict():
    def chat(system, answer):
        roles = (("system", system), ("user", "Is 7 odd?"), ("assistant", answer))
        return {"messages": [{"role": role, "content": text} for role, text in roles]}

    rows = [chat(f"Rule {i}", ("no", "yes")[i % 2]) for i in range(20)]
    assert found(rows) == []
    (finding,) = found([*rows, chat("rule 3", "no")])
    assert finding.count == 2


def test_equal_prompts_with_different_free_text_are_not_reported():
    rows = [{"prompt": "Write a poem.", "completion": f"Poem {i} about the sea"} for i in range(30)]
    assert found(rows) == []


def test_opposite_preferences_are_reported_with_both_lines():
    pairs = [{"prompt": f"Order {i}", "chosen": f"Yes {i}.", "rejected": f"No {i}."} for i in range(8)]
    swapped = {"prompt": "order 3", "chosen": "No 3.", "rejected": "Yes 3."}
    (finding,) = found(LABELLED, [*pairs, swapped])
    assert (finding.count, finding.share) == (2, Fraction(2, 29))
    assert list(finding.examples) == [
        "line 4 of preference prefers the completion that line 9 of preference rejects",
    ]


@pytest.mark.parametrize(
    "pair",
    [
        {"prompt": "Order 1", "chosen": "Yes 1.", "rejected": "Maybe 1."},
        {"prompt": "Order 9", "chosen": "No 1.", "rejected": "Yes 1."},
        {"prompt": "Order 2", "chosen": "Yes.", "rejected": "yes."},
    ],
    ids=["another rejected completion", "another prompt", "equal completions"],
)
def test_other_pairs_are_not_opposite(pair):
    pairs = [{"prompt": "Order 1", "chosen": "Yes 1.", "rejected": "No 1."}, pair]
    assert found([], pairs) == []
