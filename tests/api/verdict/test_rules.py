"""Every rule: what it finds never gets better for a model that is worse, or of which less is known."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.contract.bar import GOLDEN_RULES
from tunegate_api.v1alpha2.sets import SetRule
from tunegate_api.verdict.core import Rule, found, state
from tunegate_api.verdict.measured import Comparator, Letters, Measured
from tunegate_api.verdict.outcomes import CaseSet, DropPolicy, VerdictState
from tunegate_api.verdict.rules.drop import Drop
from tunegate_api.verdict.rules.minimum import Minimum
from tunegate_api.verdict.rules.new_failures import NewFailures
from tunegate_api.verdict.rules.relative_drop import RelativeDrop

PASSED, INCONCLUSIVE, ERROR, FAILED = VerdictState
CASES = 20


RULES: Sequence[Rule] = (
    Minimum(Fraction(9, 10)),
    Minimum(Fraction(1), "critical", cases=("pii",)),
    Drop(Fraction(5)),
    Drop(Fraction(2), is_of_cases=True),
    Drop(Fraction(30), policy=DropPolicy.NON_INFERIOR),
    NewFailures(),
    NewFailures(2),
    NewFailures(Fraction(1, 10)),
    RelativeDrop(Fraction(1, 4)),
)


def part(now: str, before: str, tolerance: Fraction = Fraction(0), total: int = CASES) -> Measured:
    cases = CaseSet(sha256="0", ids=[f"case-{i}" for i in range(total)])
    comparator = Comparator("BaseModel", Letters(before, total), tolerance=tolerance)
    return Measured(cases, Letters(now, total), comparator)


letters = st.text("ppppppft", min_size=CASES, max_size=CASES)
tolerances = st.sampled_from([Fraction(0), Fraction(5, 100)])
positions = st.integers(0, CASES - 1)


def changed(outcomes: str, at: int, letter: str) -> str:
    return outcomes[:at] + letter + outcomes[at + 1 :]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(now=letters, before=letters, at=positions, tolerance=tolerances)
def test_worse_model_is_never_judged_better(rule, now, before, at, tolerance):
    known = state(rule, part(now, before, tolerance))
    for worse in "fte?":
        if now[at] == "p":
            judged = state(rule, part(changed(now, at, worse), before, tolerance))
            assert judged.severity >= known.severity


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.compares], ids=repr)
@given(now=letters, before=letters, at=positions, tolerance=tolerances)
def test_better_comparator_never_makes_a_model_pass(rule, now, before, at, tolerance):
    is_state = state(rule, part(now, changed(before, at, "f"), tolerance))
    better = state(rule, part(now, changed(before, at, "p"), tolerance))
    assert better is not PASSED or is_state is PASSED


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(now=letters, before=letters, at=positions)
def test_model_with_an_unmeasured_case_never_passes(rule, now, before, at):
    for unmeasured in (changed(now, at, "e"), changed(now, at, "?"), now[:at]):
        assert state(rule, part(unmeasured, before)) in (ERROR, FAILED)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.compares], ids=repr)
@given(now=letters, before=letters, at=positions, tolerance=tolerances)
def test_unmeasured_case_of_the_comparator_never_helps(rule, now, before, at, tolerance):
    judged = state(rule, part(now, changed(before, at, "e"), tolerance))
    as_passed = state(rule, part(now, changed(before, at, "p"), tolerance))
    assert judged is not PASSED or (tolerance and as_passed in (PASSED, INCONCLUSIVE))


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(now=st.text("pppfte", max_size=CASES), before=st.text("pppfte", max_size=CASES))
def test_message_belongs_to_the_state(rule, now, before):
    here = part(now, before)
    result = found(rule, here)
    assert result.state is state(rule, here)
    assert bool(result.reason) is (result.state in (ERROR, INCONCLUSIVE))


def test_many_truncated_outputs_of_the_comparator_leave_a_pass_undecided():
    few, many = part("p" * 18 + "ff", "p" * 18 + "tf"), part("p" * 18 + "ff", "p" * 18 + "tt")
    assert state(Drop(Fraction(10)), few) is PASSED
    result = found(Drop(Fraction(10)), many)
    assert result.state is INCONCLUSIVE
    assert (
        "2 outputs of BaseModel were truncated, and if they had passed, this would be a drop" in result.reason
    )


def test_unmeasured_comparator_cases_are_tolerated_up_to_a_share():
    rule, tolerance = Drop(Fraction(40)), Fraction(5, 100)
    one, two = "e" + "p" * 19, "ee" + "p" * 18
    assert state(rule, part("p" * 20, one)) is ERROR
    assert state(rule, part("p" * 20, one, tolerance)) is PASSED
    assert state(rule, part("p" * 20, two, tolerance)) is ERROR


def test_tolerated_case_that_could_change_the_result_is_an_error():
    known = part("ff" + "p" * 18, "fp" + "p" * 18, Fraction(5, 100))
    assert state(Drop(Fraction(10)), known) is PASSED
    unknown = replace(known, before=part("", "ep" + "p" * 18, Fraction(5, 100)).before)
    assert state(Drop(Fraction(10)), unknown) is ERROR


def test_every_rule_of_the_table_is_tested_here():
    given = SetRule(name="all", min_pass_rate="90%", fail_at_drop="5%", max_relative_drop="50%")
    for name, make in GOLDEN_RULES.items():
        rules = make(given)
        assert {rule.name for rule in rules} == {name}
        assert {type(rule) for rule in rules} <= {type(rule) for rule in RULES}
