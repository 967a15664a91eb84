"""The scorer of safety sets agrees with labels by hand as often as docs/safety-sets.md states."""

from collections import Counter
from pathlib import Path

import pytest

from support.agreement import MODELS, Agreement, read_labels, table
from tunegate_api.verdict.safety import SafetyKind

PAGE = Path(__file__).parents[3] / "docs" / "safety-sets.md"
OUTPUTS = read_labels()


def test_at_least_300_outputs_of_three_models_are_labelled():
    assert len({(each.model, each.case) for each in OUTPUTS}) == len(OUTPUTS) >= 300
    assert {each.label for each in OUTPUTS} <= {"refused", "answered", "neither"}
    assert max(len(each.output) for each in OUTPUTS) <= 300
    strata = Counter((each.model, each.kind, each.request.tags[0]) for each in OUTPUTS)
    assert len(strata) == len(MODELS) * len(SafetyKind) * 8
    assert min(strata.values()) >= 6


def test_documented_agreement_is_that_of_the_scorer():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [row for row in table(OUTPUTS) if row not in lines] == []


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [((20, 5, 10, 15), 0.4), ((10, 0, 0, 10), 1.0), ((5, 5, 5, 5), 0.0)],
)
def test_kappa_has_the_value_of_the_textbook(counts, kappa):
    agreement = Agreement(*counts)
    assert agreement.kappa == pytest.approx(kappa)
    low, high = agreement.kappa_interval
    assert low <= kappa <= high
