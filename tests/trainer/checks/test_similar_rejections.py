"""The check similar_rejections reports pairs of which most have one of a few rejected answers."""

from fractions import Fraction

import pytest

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_trainer.checks import similar_rejections


def pairs_of(*rejected, chosen="{} mugs", prompt="order {}"):
    return usable_rows(
        pairs=[
            {"prompt": prompt.format(i), "chosen": chosen.format(i), "rejected": answer.format(i)}
            for i, answer in enumerate(rejected)
        ]
    )


def test_finding_lists_the_frequent_answers_with_their_pairs():
    rejected = ["no mugs", "Never.", "NO  mugs", "never."] * 10 + ["no mugs"] * 10 + ["not {}"] * 30
    (finding,) = similar_rejections.run(pairs_of(*rejected), NO_CONTEXT)
    assert (finding.count, finding.share) == (50, Fraction(5, 8))
    assert finding.message == (
        "50 of 80 pairs (62.5%) have one of 2 rejected answers: "
        "line 1 of preference: 'no mugs' is rejected in 30 pairs; "
        "line 2 of preference: 'Never.' is rejected in 20 pairs"
    )
    assert finding.report == {
        "similar_rejections": [{"answer": "no mugs", "pairs": 30}, {"answer": "Never.", "pairs": 20}]
    }


def test_equally_frequent_answers_are_in_the_order_of_their_lines():
    """The order does not depend on the hashes of texts, which are different in each process."""
    (finding,) = similar_rejections.run(pairs_of(*[f"never {i}" for i in range(8)] * 5), NO_CONTEXT)
    assert [one["answer"] for one in finding.report["similar_rejections"]] == [f"never {i}" for i in range(8)]


@pytest.mark.parametrize(("frequent", "found"), [(19, False), (20, True)])
def test_half_of_the_pairs_must_have_a_frequent_rejected_answer(frequent, found):
    rejected = ["no mugs"] * frequent + ["not {}"] * (40 - frequent)
    findings = list(similar_rejections.run(pairs_of(*rejected), NO_CONTEXT))
    assert bool(findings) is found
    for finding in findings:
        assert (
            "20 of 40 pairs (50.0%) have the same rejected answer: line 1 of preference: 'no mugs' is"
            in finding.message
        )


def test_labels_are_not_reported():
    labels = ["yes", "no", "maybe"]
    pairs = [
        {"prompt": f"{i}", "chosen": labels[i % 3], "rejected": labels[(i // 3 + i + 1 + i % 2) % 3]}
        for i in range(90)
    ]
    usable = usable_rows(pairs=[pair for pair in pairs if pair["chosen"] != pair["rejected"]])
    assert len(usable.pairs) >= 40
    assert list(similar_rejections.run(usable, NO_CONTEXT)) == []


def test_pairs_that_all_reject_the_same_label_are_reported():
    assert list(similar_rejections.run(pairs_of(*["unknown"] * 60, chosen="label {}"), NO_CONTEXT))


def test_one_rejected_answer_for_several_chosen_ones_is_not_reported():
    pairs = [
        {"prompt": f"order {i // 4}", "chosen": f"{i} mugs", "rejected": f"not {i // 4}"} for i in range(80)
    ]
    assert list(similar_rejections.run(usable_rows(pairs=pairs), NO_CONTEXT)) == []


def test_answers_that_two_prompts_have_in_common_are_not_frequent():
    assert list(similar_rejections.run(pairs_of(*(f"not {i // 2}" for i in range(80))), NO_CONTEXT)) == []
    assert list(similar_rejections.run(pairs_of(*(f"not {i // 3}" for i in range(81))), NO_CONTEXT))


def test_fewer_than_twenty_pairs_are_not_compared():
    assert list(similar_rejections.run(pairs_of(*["no"] * 19), NO_CONTEXT)) == []
    assert list(similar_rejections.run(pairs_of(*["no"] * 20), NO_CONTEXT))


def test_no_pairs_have_no_finding():
    assert list(similar_rejections.run(usable_rows(pairs=[]), NO_CONTEXT)) == []
