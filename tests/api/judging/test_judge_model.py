"""Whether a judge model agrees with people often enough, and which of its scores count."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.contract.bar import share
from tunegate_api.contract.plan import CalibrationCounts, JudgedBad, JudgePlan, SampledRow, SamplePlan
from tunegate_api.judging.judge_model import (
    Agreement,
    CalibrationAssessment,
    add_judge,
    assess_calibration,
    assess_judge,
    rows_needed,
)
from tunegate_api.judging.review import ReviewRecord, ReviewScores, assess_review, merge_scores
from tunegate_api.v1alpha2.graders import RequiredAgreement

SAMPLE = SamplePlan(sha256="a" * 64, rows=[SampledRow(id=id, row=f"line-{id}") for id in "abcdef"])
NOBODY = ReviewRecord(sample=SAMPLE.sha256, votes=[])


def wanted(recall: str = "70%", specificity: str = "80%") -> RequiredAgreement:
    return RequiredAgreement(set="people", min_recall=recall, min_specificity=specificity)


def counts(bad_found: int, good_accepted: int, bad: int = 20, good: int = 80, unscored: int = 0) -> Any:
    return CalibrationCounts(
        source_sha256="0" * 64,
        bad=bad,
        bad_found=bad_found,
        good=good,
        good_accepted=good_accepted,
        unscored=unscored,
    )


def assessed(*numbers: int, **changes: Any) -> CalibrationAssessment:
    return assess_calibration(counts(*numbers, **changes), wanted())


@pytest.mark.parametrize(
    ("bad_found", "good_accepted", "passes"),
    [
        (20, 80, True),
        (19, 74, True),
        (18, 80, False),  # the lower bound is 0.699
        (20, 72, True),
        (20, 71, False),  # the lower bound is 0.799
        (0, 80, False),
        (20, 0, False),
    ],
)
def test_both_lower_bounds_must_reach_their_minimum(bad_found, good_accepted, passes):
    assert assessed(bad_found, good_accepted).has_passed is passes


def test_message_has_the_arithmetic_of_both_rates():
    assert assessed(14, 78).message == (
        "recall 14/20 = 0.70, lower bound 0.48, minimum 0.70; "
        "specificity 78/80 = 0.97, lower bound 0.91, minimum 0.80"
    )


def test_bound_just_below_the_minimum_is_not_displayed_as_equal():
    assert "recall 18/20 = 0.90, lower bound 0.69, minimum 0.70" in assessed(18, 80).message


def test_bound_equal_to_the_minimum_is_enough():
    bound = Agreement("recall", 19, 20, Fraction(0)).lower_bound
    assert Agreement("recall", 19, 20, bound).is_reached
    assert not Agreement("recall", 19, 20, bound + Fraction(1, 10**12)).is_reached


def test_rows_without_a_score_count_against_the_judge():
    found = assessed(14, 80, unscored=6)
    assert not found.has_passed
    assert found.message.endswith("; 6 calibration rows without a score")


@pytest.mark.parametrize(("bad", "good"), [(0, 80), (20, 0), (0, 0)])
def test_calibration_without_bad_or_good_rows_does_not_pass(bad, good):
    found = assess_calibration(counts(bad, good, bad=bad, good=good), wanted("50%", "50%"))
    assert not found.has_passed


def test_impossible_counts_of_a_forged_plan_do_not_crash():
    assert "recall 900/20" in assessed(900, 80).message


@given(st.integers(1, 200), st.integers(0, 200), st.integers(50, 99))
def test_another_error_of_the_judge_never_lets_it_pass(bad, errors, percent):
    wish = wanted(f"{percent}%", "50%")
    found = max(0, bad - errors)
    worse = assess_calibration(counts(max(0, found - 1), 80, bad=bad), wish)
    better = assess_calibration(counts(found, 80, bad=bad), wish)
    assert better.has_passed or not worse.has_passed


@pytest.mark.parametrize(("minimum", "rows"), [("50%", 4), ("70%", 9), ("90%", 35), ("99%", 381)])
def test_fewest_rows_with_which_a_perfect_judge_passes(minimum, rows):
    assert rows_needed(share(minimum)) == rows
    fits = assess_calibration(counts(rows, 80, bad=rows), wanted(minimum))
    assert fits.has_passed
    assert not assess_calibration(counts(rows - 1, 80, bad=rows - 1), wanted(minimum)).has_passed


def judge(good: str = "", bad: str = "", *, found: int = 20, **faults: int) -> Any:
    """Return the assessment of a judge. Each letter of ``good`` and ``bad`` is the id of a row."""
    rows = [JudgedBad(id=id, reason=f"wrong {id}") for id in bad]
    plan = JudgePlan(
        model="judge-7b",
        instructions_sha256="1" * 64,
        calibration=counts(found, 80),
        good=list(good),
        bad=rows,
        faults=faults,
    )
    return assess_judge(plan, wanted())


def by_people(**scores: bool) -> ReviewRecord:
    document = {"sample": SAMPLE.sha256, "reviewer": "ana", "scores": scores}
    return merge_scores(SAMPLE, [ReviewScores.model_validate(document)])


def test_calibrated_judge_is_a_reviewer_whose_reasons_are_notes():
    record = add_judge(NOBODY, SAMPLE, judge("abcd", "ef"))
    (votes,) = record.votes
    assert votes.reviewer == "judge judge-7b"
    found = assess_review(SAMPLE, record, Fraction(1, 2))
    assert (found.good, found.scored, found.has_passed) == (4, 6, True)
    assert [str(row) for row in found.bad] == ["e (row line-e): wrong e", "f (row line-f): wrong f"]


def test_scores_of_people_replace_those_of_the_judge():
    record = add_judge(by_people(e=True, a=False), SAMPLE, judge("abcd", "ef"))
    found = assess_review(SAMPLE, record, Fraction(1, 2))
    assert {row.id for row in found.bad} == {"a", "f"}
    assert found.is_complete


def test_scores_of_an_uncalibrated_judge_do_not_count():
    found = judge("abcdef", found=14)
    assert add_judge(NOBODY, SAMPLE, found) == NOBODY
    people = by_people(a=True)
    assert add_judge(people, SAMPLE, found) == people


def test_row_without_a_score_of_the_judge_waits_for_people():
    record = add_judge(NOBODY, SAMPLE, judge("abcd", "e"))
    found = assess_review(SAMPLE, record, Fraction(0))
    assert (found.scored, found.is_complete, found.has_passed) == (5, False, False)


def test_row_scored_twice_is_bad_and_unknown_rows_are_ignored():
    record = add_judge(NOBODY, SAMPLE, judge("abcdexyz", "efx"))
    found = assess_review(SAMPLE, record, Fraction(1, 2))
    assert (found.good, found.scored) == (4, 6)
    assert {id for votes in record.votes for id in (*votes.good, *votes.bad)} == set("abcdef")


def test_failed_requests_are_counted_in_the_message():
    message = judge("abcdef", TimedOut=3, RateLimited=12).message
    assert message.endswith("; failed requests: 12 RateLimited, 3 TimedOut")
