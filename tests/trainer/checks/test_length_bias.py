"""The check length_bias reports pairs in which almost always the same answer is longer."""

from fractions import Fraction

import pytest

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_trainer.checks import length_bias
from tunegate_trainer.checks.length_bias import MIN_PAIRS, MIN_SHARE


def pairs_of(*lengths):
    """Return pairs of which chosen and rejected have these lengths in characters."""
    return usable_rows(
        pairs=[
            {"prompt": f"{i}", "chosen": "c" * chosen, "rejected": "r" * rejected}
            for i, (chosen, rejected) in enumerate(lengths)
        ]
    )


@pytest.mark.parametrize(
    ("longer", "lengths", "found"),
    [
        (40, (60, 40), True),  # at the limits: 80 % of 50 pairs, ratio 1.5
        (39, (60, 40), False),
        (40, (59, 40), False),
        (40, (39, 26), False),  # labels
    ],
)
def test_bias_is_reported_from_its_smallest_share_and_ratio(longer, lengths, found):
    given = [lengths] * longer + [lengths[::-1]] * (50 - longer)
    findings = list(length_bias.run(pairs_of(*given), NO_CONTEXT))
    assert bool(findings) is found
    for finding in findings:
        assert (finding.count, finding.share) == (40, Fraction(4, 5))
        assert finding.examples[0] == "line 1 of preference: chosen has 60 characters, rejected has 40"
        assert (
            "chosen is longer than rejected in 40 of 50 pairs (80.0%), by a factor of 1.5 in the median and "
            in (finding.message)
        )
        assert finding.report["length_bias"] == {
            "chosen": "longer",
            "pairs": 40,
            "compared": 50,
            "median_ratio": 1.5,
            "mean_ratio": 1.333,
        }


def test_chosen_answers_that_are_always_shorter_are_reported():
    (finding,) = length_bias.run(pairs_of(*[(20, 80)] * 57, *[(80, 20)] * 3), NO_CONTEXT)
    assert (finding.count, finding.report["length_bias"]["median_ratio"]) == (57, 4)
    assert finding.message.startswith("chosen is shorter than rejected in 57 of 60 pairs (95.0%)")
    assert finding.remedy.startswith("add pairs in which chosen is longer, ")


def test_short_answers_do_not_count_as_pairs():
    given = [(90, 30)] * 60 + [(2, 3)] * 400
    (finding,) = length_bias.run(pairs_of(*given), NO_CONTEXT)
    assert (finding.count, finding.share) == (60, 1)


def test_fewer_than_fifty_pairs_have_no_bias():
    assert list(length_bias.run(pairs_of(*[(90, 30)] * 49), NO_CONTEXT)) == []
    assert list(length_bias.run(pairs_of(*[(90, 30)] * 50), NO_CONTEXT))


def test_smallest_bias_is_statistically_significant():
    from scipy.stats import binomtest

    assert binomtest(int(MIN_SHARE * MIN_PAIRS), MIN_PAIRS).pvalue < 0.0001
