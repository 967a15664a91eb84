"""Count-based metrics: their value, their verdict, and what cannot pass."""

from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.judging.counts import (
    COUNTED,
    MAX_COUNT,
    NOT_COUNTED,
    Counts,
    counted_metric,
    counts_text,
    outcome_length,
)
from tunegate_api.judging.golden import Expectation
from tunegate_api.judging.verdict import CaseSet, RuleFinding, VerdictState
from tunegate_api.v1alpha1.finetunejob import TaskMetric

PASSED, INCONCLUSIVE, ERROR, FAILED = VerdictState
HALF = Fraction(1, 2)


def rows(count: int) -> CaseSet:
    return CaseSet(sha256="0", ids=[f"row-{i}" for i in range(count)])


def judge(
    name: str, outcomes: str, counts: str, minimum: Fraction = HALF, total: int | None = None
) -> RuleFinding:
    return counted_metric(name, rows(len(outcomes) if total is None else total), outcomes, counts).judge(
        minimum
    )


def value(name: str, outcomes: str, counts: str) -> Fraction:
    return counted_metric(name, rows(len(outcomes)), outcomes, counts).value


@pytest.mark.parametrize(
    ("name", "outcomes", "counts", "state", "message"),
    [
        ("f1", "pfp", "4/4 0/3 2/5", PASSED, "f1 6/12 = 0.50 over 3 rows, required 0.50"),
        ("f1", "pff", "4/4 0/4 2/5", FAILED, "f1 6/13 = 0.46 over 3 rows, required 0.50"),
        ("f1", "ppf", "0/0 1/2 0/0", PASSED, "f1 1/2 = 0.50 over 3 rows, required 0.50"),
        ("rouge_l", "pff", "4/4 0/4 2/4", PASSED, "rouge_l 1.50/3 = 0.50 over 3 rows, required 0.50"),
        ("rouge_l", "pff", "4/4 0/4 2/5", FAILED, "rouge_l 1.40/3 = 0.46 over 3 rows, required 0.50"),
        ("f1", "pe", "4/4 -", ERROR, "f1 4/4 = 1.00 over 1 rows, required 0.50, 1 not measured"),
        ("f1", "ee", "- -", ERROR, "f1, required 0.50, 2 not measured"),
        (
            "rouge_l",
            "ffe",
            "0/4 0/4 -",
            FAILED,
            "rouge_l 0.00/2 = 0.00 over 2 rows, required 0.50, 1 not measured",
        ),
        ("f1", "ff", "0/0 0/0", ERROR, "f1 has no value, because all 2 rows have a denominator of 0"),
        (
            "rouge_l",
            "pf",
            "1/1 0/0",
            ERROR,
            "rouge_l 1.00/1 = 1.00 over 1 rows, required 0.50, 1 not measured",
        ),
        ("f1", "", "", INCONCLUSIVE, "f1: no held-out rows to measure on"),
    ],
)
def test_count_metric_is_judged_by_its_value(name, outcomes, counts, state, message):
    finding = judge(name, outcomes, counts)
    assert (finding.state, finding.message) == (state, message)


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "4/4",
        "4/4 -",
        "4/4 x",
        "4/4 5/4",
        "4/4 -1/4",
        "4/4 4",
        "4/4 4/",
        "4/4 1/100000",
        "4/4 \u0661/\u0664",
        "4/4  4/4",
    ],
)
def test_missing_or_invalid_counts_are_an_error(counts):
    for name in COUNTED:
        assert judge(name, "pp", counts, Fraction(1, 100)).state is ERROR
        assert value(name, "pp", counts) == 0


@pytest.mark.parametrize(("outcomes", "counts"), [("pp", "4/4 4/4 4/4"), ("ppp", "4/4 4/4")])
def test_more_counts_or_outcomes_than_rows_are_an_error(outcomes, counts):
    finding = judge("f1", outcomes, counts, total=2)
    assert (finding.state, finding.message) == (
        ERROR,
        "f1: 3 counts were reported for 2 held-out rows",
    )


def test_unknown_or_missing_outcome_of_a_count_metric_is_an_error():
    assert judge("f1", "px", "4/4 4/4").state is ERROR
    assert judge("f1", "p", "4/4 4/4", total=2).state is ERROR


def test_count_metric_takes_zero_as_numerator_of_a_truncated_output():
    assert value("f1", "pt", "4/4 4/4") == HALF
    assert value("rouge_l", "pt", "4/4 3/4") == HALF


def test_pass_or_fail_outcomes_do_not_change_a_count_metric():
    assert judge("f1", "pp", "0/4 1/4").state is FAILED
    assert judge("f1", "ff", "4/4 3/4").state is PASSED


def test_largest_counts_fit_in_the_length_limit_of_outcomes():
    longest = counts_text([Counts(MAX_COUNT, MAX_COUNT)] * 1000)
    assert len("p" * 1000 + longest) <= 1000 * outcome_length("f1")
    assert outcome_length("exact_match") == 1
    assert judge("f1", "p" * 1000, longest).state is PASSED


def test_count_metric_is_a_task_metric_but_not_a_golden_expectation():
    """Baselines and the stop rule compare golden cases, which pass or fail."""
    union, _ = get_args(Expectation)
    expectations = {kind for one in get_args(union) for kind in get_args(one.model_fields["type"].annotation)}
    metrics = set(get_args(TaskMetric.model_fields["name"].annotation))
    assert COUNTED.keys() <= metrics
    assert not COUNTED.keys() & expectations
    assert not COUNTED.keys() & {"exact_match", "json_schema", "preference_accuracy"}


case_counts = st.integers(1, MAX_COUNT).flatmap(lambda d: st.builds(Counts, st.integers(0, d), st.just(d)))
cases = st.lists(st.tuples(st.sampled_from("pf"), case_counts), min_size=1, max_size=30)
minimums = st.fractions(0, 1, max_denominator=100)


@given(
    st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=30).filter(
        lambda found: any(map(any, found))
    )
)
def test_micro_aggregate_equals_the_f1_score_over_all_cases(found):
    tp, fp, fn = (sum(case[i] for case in found) for i in range(3))
    counts = counts_text([Counts(2 * tp, 2 * tp + fp + fn) for tp, fp, fn in found])
    assert value("f1", "f" * len(found), counts) == Fraction(2 * tp, 2 * tp + fp + fn)


@given(cases)
def test_mean_aggregate_equals_the_exact_mean_over_cases(drawn):
    outcomes = "".join(letter for letter, _ in drawn)
    exact = sum(Fraction(c.numerator, c.denominator) for _, c in drawn) / len(drawn)
    assert value("rouge_l", outcomes, counts_text([c for _, c in drawn])) == exact


@given(st.sampled_from(sorted(COUNTED)), cases, minimums, st.data())
def test_case_without_counts_never_improves_a_verdict(name, drawn, minimum, data):
    outcomes, counts = "".join(letter for letter, _ in drawn), [c for _, c in drawn]
    at = data.draw(st.integers(0, len(drawn) - 1))
    before = judge(name, outcomes, counts_text(counts), minimum)
    without = counts_text([None if i == at else c for i, c in enumerate(counts)])
    for changed in (
        judge(name, outcomes, without, minimum),
        judge(name, outcomes, without.replace(NOT_COUNTED, ""), minimum),
    ):
        assert changed.state in (ERROR, FAILED)
        assert changed.state is ERROR or before.state is FAILED


@given(st.sampled_from(sorted(COUNTED)), cases, minimums, st.data())
def test_lower_numerator_never_improves_the_verdict(name, drawn, minimum, data):
    outcomes, counts = "".join(letter for letter, _ in drawn), [c for _, c in drawn]
    at = data.draw(st.integers(0, len(drawn) - 1))
    less = Counts(data.draw(st.integers(0, counts[at].numerator)), counts[at].denominator)
    worse = [less if i == at else c for i, c in enumerate(counts)]
    before, after = (judge(name, outcomes, counts_text(each), minimum) for each in (counts, worse))
    assert after.state.severity >= before.state.severity
