"""Scores of several reviewers are merged in any order, and the record of a review fits in a ConfigMap."""

import itertools
from fractions import Fraction

import pytest
from pydantic import ValidationError

from tunegate_api.contract.digests import canonical_json
from tunegate_api.contract.plan import SampledRow, SamplePlan
from tunegate_api.judging.review import ReviewScores, RowScore, assess_review, merge_scores
from tunegate_api.meta import first_problem
from tunegate_api.v1alpha2.data_status import MAX_REVIEWER, MAX_REVIEWERS

MAX_CONFIG_MAP = 1024 * 1024


def sample(rows: int) -> SamplePlan:
    return SamplePlan(sha256="5" * 64, rows=[SampledRow(id=f"{n:012x}", row=str(n)) for n in range(rows)])


def given(plan: SamplePlan, reviewer: str, letters: str, note: str = "") -> ReviewScores:
    """Scores by row: y good, n bad, - none."""
    scores = {
        row.id: RowScore(good=letter == "y", note=note)
        for row, letter in zip(plan.rows, letters, strict=True)
        if letter != "-"
    }
    return ReviewScores(sample=plan.sha256, reviewer=reviewer, scores=scores)


def test_scores_are_merged_to_the_same_record_in_any_order() -> None:
    plan = sample(4)
    documents = [
        given(plan, "ana", "yn-y", "from ana"),
        given(plan, "ana", "y-ny", "later"),
        given(plan, "ben", "nny-", "from ben"),
    ]
    records = [merge_scores(plan, order) for order in itertools.permutations(documents)]
    assert all(record == records[0] for record in records)
    found = assess_review(plan, records[0], Fraction(1, 2))
    assert (found.scored, found.good) == (4, 1)
    assert [row.row for row in found.bad] == ["1", "0", "2"], (
        "the worst first, then in the order of the sample"
    )


def test_one_bad_score_makes_a_reviewers_vote_bad() -> None:
    plan = sample(1)
    for first, second in (("y", "n"), ("n", "y")):
        record = merge_scores(plan, [given(plan, "ana", first), given(plan, "ana", second)])
        found = assess_review(plan, record, Fraction(0))
        assert (found.scored, found.good) == (1, 0)


def test_score_is_compared_as_an_exact_fraction() -> None:
    plan = sample(3)
    record = merge_scores(plan, [given(plan, "ana", "yyn")])
    assert assess_review(plan, record, Fraction(2, 3)).has_passed
    assert not assess_review(plan, record, Fraction("0.6667")).has_passed
    assert assess_review(plan, record, Fraction("0.6667")).score == "0.66"


def test_record_of_the_largest_review_fits_in_a_config_map() -> None:
    plan = sample(500)
    reviewers = [f"{n}".ljust(MAX_REVIEWER, "\N{GRINNING FACE}") for n in range(MAX_REVIEWERS)]
    documents = [given(plan, name, "n" * 500, "\N{GRINNING FACE}" * 2000) for name in reviewers]
    record = merge_scores(plan, documents)
    assert len(record.notes) == 500
    text = canonical_json(record)
    assert len(text) <= len(text.encode()) < MAX_CONFIG_MAP


@pytest.mark.parametrize(
    ("field", "document"),
    [
        ("reviewer", {"reviewer": "a\ud800", "scores": {}}),
        ("scores.ID.note", {"reviewer": "ana", "scores": {"ID": {"good": False, "note": "\udfff"}}}),
    ],
)
def test_text_that_cannot_be_encoded_is_refused(field: str, document: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        ReviewScores.model_validate({"sample": "5" * 64, **document})
    assert first_problem(caught.value).startswith(f"{field}: has half of a surrogate pair")
