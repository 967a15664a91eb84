"""Count-based metrics: their value, their verdict, and what cannot pass."""

from collections.abc import Sequence
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.v1alpha2.finetunejob import MetricType
from tunegate_api.verdict.counts import (
    COUNTED,
    MAX_COUNT,
    NOT_COUNTED,
    Aggregate,
    Classification,
    Counts,
    Entry,
    counted_metric,
    label_scores,
    outcome_length,
)
from tunegate_api.verdict.golden import judge_task
from tunegate_api.verdict.outcomes import CaseSet, RuleFinding, VerdictState

PASSED, INCONCLUSIVE, ERROR, FAILED = VerdictState
HALF = Fraction(1, 2)
DEFAULTS = {"f1": COUNTED["F1"], "rouge_l": COUNTED["RougeL"], "custom": COUNTED["Custom"]}


def rows(count: int) -> CaseSet:
    return CaseSet(sha256="0", ids=[f"row-{i}" for i in range(count)])


def text(entries: Sequence[Entry | None]) -> str:
    return " ".join(NOT_COUNTED if each is None else str(each) for each in entries)


def judge(
    name: str,
    outcomes: str,
    counts: str,
    minimum: Fraction = HALF,
    total: int | None = None,
    aggregate: Aggregate | None = None,
) -> RuleFinding:
    cases = rows(len(outcomes) if total is None else total)
    score = counted_metric(cases, outcomes, counts, aggregate or DEFAULTS[name])
    return judge_task(name, cases, score, minimum)


def value(name: str, outcomes: str, counts: str, aggregate: Aggregate | None = None) -> Fraction:
    return counted_metric(rows(len(outcomes)), outcomes, counts, aggregate or DEFAULTS[name]).value


@pytest.mark.parametrize(
    ("name", "outcomes", "counts", "state", "message"),
    [
        ("f1", "pfp", "0>0 1>0 1>1", PASSED, "f1 2/3 = 0.66 over 3 rows, required 0.50"),
        ("f1", "pff", "0>0 1>0 1>-", FAILED, "f1 1/3 = 0.33 over 3 rows, required 0.50"),
        ("rouge_l", "pff", "4/4 0/4 2/4", PASSED, "rouge_l 1.50/3 = 0.50 over 3 rows, required 0.50"),
        ("rouge_l", "pff", "4/4 0/4 2/5", FAILED, "rouge_l 1.40/3 = 0.46 over 3 rows, required 0.50"),
        ("custom", "pff", "1/1 0/1 1/2", PASSED, "custom 1.50/3 = 0.50 over 3 rows, required 0.50"),
        ("f1", "pe", "0>0 -", ERROR, "f1 1/1 = 1.00 over 1 rows, required 0.50, 1 not measured"),
        ("f1", "ee", "- -", ERROR, "f1, required 0.50, 2 not measured"),
        (
            "rouge_l",
            "ffe",
            "0/4 0/4 -",
            FAILED,
            "rouge_l 0.00/2 = 0.00 over 2 rows, required 0.50",
        ),
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
    ("outcomes", "counts", "state", "message"),
    [
        # label 0: 2 tp, 1 fp: 4/5; label 1: 1 fn: 0
        ("ppf", "0>0 0>0 1>0", FAILED, "f1 0.40, the mean of 2 labels, over 3 rows, required 0.50"),
        # label 0: 1 tp, 1 fn: 2/3; label 1: 1 tp: 1
        ("ppf", "0>0 1>1 0>-", PASSED, "f1 0.83, the mean of 2 labels, over 3 rows, required 0.50"),
        # label 5 is predicted, but no row expects it
        ("pf", "0>0 0>5", PASSED, "f1 0.66, the mean of 1 labels, over 2 rows, required 0.50"),
    ],
)
def test_macro_f1_is_the_mean_over_expected_labels(outcomes, counts, state, message):
    finding = judge("f1", outcomes, counts, aggregate=Aggregate.MACRO)
    assert (finding.state, finding.message) == (state, message)


def test_unmeasured_case_may_have_been_a_further_label():
    """With a right prediction of a second label, the mean would be 0.50, so the metric has not failed."""
    entries = " ".join(["0>-"] * 10)
    finding = judge("f1", "f" * 10 + "e", f"{entries} -", Fraction(1, 2), aggregate=Aggregate.MACRO)
    assert finding.state is ERROR
    finding = judge("f1", "f" * 10 + "e", f"{entries} -", Fraction(3, 5), aggregate=Aggregate.MACRO)
    assert finding.state is FAILED


def test_each_label_has_its_f1_score_and_support():
    entries = [Classification(*pair) for pair in ((0, 0), (0, 1), (2, 2), (2, None), (2, 2))]
    assert [(s.label, s.f1, s.support) for s in label_scores(entries)] == [
        (0, Fraction(2, 3), 2),
        (2, Fraction(4, 5), 3),
    ]


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
        "4/4 0>0",
        "0>0",
        "0>0 -",
        "0>0 0>",
        "0>0 >0",
        "0>0 ->0",
        "0>0 0>1000",
        "0>0 -1>0",
        "0>0 4/4",
        "0>0 0>\u0661",
    ],
)
def test_missing_or_invalid_counts_are_an_error(counts):
    for name in DEFAULTS:
        assert judge(name, "pp", counts, Fraction(1, 100)).state is ERROR
        assert value(name, "pp", counts) == 0


@pytest.mark.parametrize(("outcomes", "counts"), [("pp", "0>0 0>0 0>0"), ("ppp", "0>0 0>0")])
def test_more_counts_or_outcomes_than_rows_are_an_error(outcomes, counts):
    finding = judge("f1", outcomes, counts, total=2)
    assert (finding.state, finding.message) == (
        ERROR,
        "f1: 3 outcomes were reported for 2 held-out rows",
    )


def test_unknown_or_missing_outcome_of_count_metric_is_an_error():
    assert judge("f1", "px", "0>0 0>0").state is ERROR
    assert judge("f1", "p", "0>0 0>0", total=2).state is ERROR


def test_truncated_output_is_never_right():
    assert value("f1", "pt", "0>0 0>0") == HALF
    assert value("f1", "pt", "0>0 0>0", Aggregate.MACRO) == Fraction(2, 3)
    assert value("rouge_l", "pt", "4/4 3/4") == HALF


def test_pass_or_fail_outcomes_do_not_change_a_count_metric():
    assert judge("rouge_l", "pp", "0/4 1/4").state is FAILED
    assert judge("rouge_l", "ff", "4/4 3/4").state is PASSED


@pytest.mark.parametrize(
    ("name", "longest"), [("f1", Classification(999, 999)), ("rouge_l", Counts(MAX_COUNT, MAX_COUNT))]
)
def test_largest_entries_fit_in_the_length_limit_of_outcomes(name, longest):
    entries = text([longest] * 1000)
    assert len("p" * 1000 + entries) <= 1000 * outcome_length(DEFAULTS[name])
    assert outcome_length(None) == 1
    assert judge(name, "p" * 1000, entries).state is PASSED


def test_every_count_metric_is_a_task_metric():
    types = set(get_args(MetricType))
    assert types - COUNTED.keys() == {
        "ExactMatch",
        "JSONSchema",
        "PreferenceAccuracy",
        "Numeric",
        "ToolCalls",
    }
    assert COUNTED.keys() < types


case_counts = st.integers(1, MAX_COUNT).flatmap(lambda d: st.builds(Counts, st.integers(0, d), st.just(d)))
classifications = st.builds(Classification, st.integers(0, 4), st.integers(0, 4) | st.none())
letters = st.sampled_from("pf")
cases = st.lists(st.tuples(letters, case_counts), min_size=1, max_size=30)
labelled = st.lists(st.tuples(letters, classifications), min_size=1, max_size=30)
minimums = st.fractions(0, 1, max_denominator=100)
measured = st.one_of(
    st.tuples(st.just("rouge_l"), st.none(), cases),
    st.tuples(st.just("f1"), st.sampled_from([Aggregate.MICRO, Aggregate.MACRO]), labelled),
)


@given(labelled)
def test_f1_equals_that_of_scikit_learn(drawn):
    from sklearn.metrics import accuracy_score, f1_score

    outcomes, entries = "".join(letter for letter, _ in drawn), [entry for _, entry in drawn]
    true = [entry.expected for entry in entries]
    guess = [-1 if entry.predicted is None else entry.predicted for entry in entries]
    macro = f1_score(true, guess, labels=sorted(set(true)), average="macro", zero_division=0)
    assert float(value("f1", outcomes, text(entries), Aggregate.MACRO)) == pytest.approx(macro)
    micro = value("f1", outcomes, text(entries), Aggregate.MICRO)
    assert float(micro) == pytest.approx(f1_score(true, guess, average="micro", zero_division=0))
    assert float(micro) == pytest.approx(accuracy_score(true, guess))


@given(cases)
def test_mean_aggregate_equals_the_exact_mean_over_cases(drawn):
    outcomes = "".join(letter for letter, _ in drawn)
    exact = sum(Fraction(c.numerator, c.denominator) for _, c in drawn) / len(drawn)
    assert value("rouge_l", outcomes, text([c for _, c in drawn])) == exact


@given(measured, minimums, st.data())
def test_case_without_counts_never_improves_a_verdict(metric, minimum, data):
    name, aggregate, drawn = metric
    outcomes, entries = "".join(letter for letter, _ in drawn), [c for _, c in drawn]
    at = data.draw(st.integers(0, len(drawn) - 1))
    before = judge(name, outcomes, text(entries), minimum, aggregate=aggregate)
    without = text([None if i == at else c for i, c in enumerate(entries)])
    empty = " ".join("" if i == at else str(c) for i, c in enumerate(entries))
    for changed in (without, empty):
        after = judge(name, outcomes, changed, minimum, aggregate=aggregate)
        assert after.state in (ERROR, FAILED)
        assert after.state is ERROR or before.state is FAILED


@given(cases, minimums, st.data())
def test_lower_numerator_never_improves_the_verdict(drawn, minimum, data):
    outcomes, counts = "".join(letter for letter, _ in drawn), [c for _, c in drawn]
    at = data.draw(st.integers(0, len(drawn) - 1))
    less = Counts(data.draw(st.integers(0, counts[at].numerator)), counts[at].denominator)
    worse = [less if i == at else c for i, c in enumerate(counts)]
    before, after = (judge("rouge_l", outcomes, text(each), minimum) for each in (counts, worse))
    assert after.state.severity >= before.state.severity


@given(labelled, minimums, st.sampled_from([Aggregate.MICRO, Aggregate.MACRO]), st.data())
def test_truncation_never_improves_the_verdict_on_f1(drawn, minimum, aggregate, data):
    outcomes, entries = "".join(letter for letter, _ in drawn), text([c for _, c in drawn])
    right = [i for i, (_, each) in enumerate(drawn) if each.expected == each.predicted]
    if not right:
        return
    at = data.draw(st.sampled_from(right))
    cut = f"{outcomes[:at]}t{outcomes[at + 1 :]}"
    before, after = (judge("f1", each, entries, minimum, aggregate=aggregate) for each in (outcomes, cut))
    assert after.state.severity >= before.state.severity
