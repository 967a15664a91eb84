"""Critical, supporting and advisory golden cases, and required tags."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.bars import golden_bar
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.verdict.outcomes import (
    Baseline,
    CaseSet,
    DropPolicy,
    Verdict,
    VerdictState,
)
from tunegate_api.verdict.stop_rule import StepOutcomes, StopAction, assess_checkpoint

PASSED, ERROR, FAILED = VerdictState.PASSED, VerdictState.ERROR, VerdictState.FAILED
STYLE = ("style",)
CASES = CaseSet(
    sha256="golden",
    ids=[f"case-{i}" for i in range(100)],
    tags=[["style"] if i >= 90 else ["pii"] if i < 2 else [] for i in range(100)],
)
"""The last ten cases have the tag style, the first two pii."""
NINETY = golden_bar(min_pass_rate=Fraction(9, 10), advisory=STYLE)


def judge(outcomes: str, rules: Bar, **baselines: Baseline) -> Verdict:
    return judge_golden(CASES, outcomes, rules, baselines)


def test_advisory_cases_count_in_no_rate_and_are_reported():
    verdict = judge("p" * 90 + "f" * 4 + "p" * 6, NINETY)
    assert (verdict.state, verdict.passed, verdict.total) == (PASSED, 90, 90)
    assert verdict.message == (
        "golden 90/90 = 1.00, required 0.90; advisory 6/10 passed, not case-90, case-91, case-92, case-93"
    )


def test_advisory_cases_cannot_raise_a_rate():
    verdict = judge("p" * 80 + "f" * 10 + "p" * 10, NINETY)
    assert verdict.state is FAILED
    assert verdict.message == "golden 80/90 = 0.88, required 0.90"


def test_advisory_case_that_was_not_measured_does_not_block():
    assert judge("p" * 90 + "e" * 10, NINETY).state is PASSED
    assert judge("p" * 90, NINETY).state is PASSED


def test_advisory_cases_are_no_new_failures_and_no_drop():
    base = Baseline("golden", "p" * 100)
    verdict = judge("p" * 90 + "f" * 10, golden_bar(advisory=STYLE, max_new_failures=0), BaseModel=base)
    assert verdict.state is PASSED
    assert "golden 90/90, BaseModel 90/90: +0.0 points" in verdict.message


def test_critical_case_is_never_advisory():
    rules = golden_bar(advisory=("style", "pii"), must_pass=("pii",))
    verdict = judge("f" + "p" * 99, rules)
    assert (verdict.state, verdict.total) == (FAILED, 90)
    assert verdict.message == "critical pii: case-0 failed"


def test_set_with_only_advisory_cases_is_an_error():
    verdict = judge("p" * 100, golden_bar(advisory=tuple(CASES.ids[:64]) + tuple(CASES.ids[64:])))
    assert verdict.state is ERROR
    assert verdict.message == "every golden case is advisory, so no case counts"


@pytest.mark.parametrize("tag", ["safety", "style"])
def test_required_tag_without_a_case_that_counts_is_an_error(tag):
    verdict = judge("p" * 100, golden_bar(advisory=STYLE, required_tags=("pii", tag)))
    assert verdict.state is ERROR
    assert verdict.message == f"required tag {tag}: no golden case that counts has it"


def test_baseline_count_with_other_advisory_cases_is_an_error():
    other = Baseline("golden", "p" * 100, by_case=False)
    verdict = judge("p" * 100, golden_bar(advisory=STYLE), LastPublished=other)
    assert verdict.state is ERROR
    assert verdict.message == (
        "Cannot compare with LastPublished: only the number of cases that LastPublished passed is recorded, "
        "with other advisory cases: publish another version, which records the cases"
    )
    same = Baseline("golden", "p" * 90, by_case=False)
    assert judge("p" * 100, golden_bar(advisory=STYLE), LastPublished=same).state is PASSED


def test_failed_advisory_cases_do_not_stop_training():
    history = [StepOutcomes(0, "p" * 100), StepOutcomes(10, "p" * 90 + "f" * 10)]
    assert assess_checkpoint(CASES, golden_bar(confirm=False), history).action is StopAction.STOP
    stop = assess_checkpoint(CASES, golden_bar(confirm=False, advisory=STYLE), history)
    assert (stop.action, stop.regressed) == (StopAction.CONTINUE, ())
    assert stop.message.startswith("golden 90/90 at step 10, starting model 90/90")


@given(
    st.text(alphabet="pfte", min_size=100, max_size=100),
    st.text(alphabet="pft", min_size=100, max_size=100),
    st.sampled_from(DropPolicy),
)
def test_advisory_cases_change_no_verdict(outcomes, before, policy):
    """The verdict equals that on a set without these cases."""
    rules = golden_bar(min_pass_rate=Fraction(1, 2), policy=policy, advisory=STYLE, must_pass=("pii",))
    found = judge(outcomes, rules, BaseModel=Baseline("golden", before))
    smaller = CASES.model_copy(update={"ids": CASES.ids[:90], "tags": CASES.tags[:90]})
    base = {"BaseModel": Baseline("golden", before[:90])}
    expected = judge_golden(smaller, outcomes[:90], replace(rules, advisory=()), base)
    assert found.findings[:-1] == expected.findings
    assert (found.state, found.passed, found.total) == (expected.state, expected.passed, expected.total)
