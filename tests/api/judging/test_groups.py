"""Golden cases in groups, such as variants of one prompt, are not counted as independent cases."""

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.judging.golden import case_set, parse_golden
from tunegate_api.judging.outcomes import (
    Baseline,
    CaseSet,
    Policy,
    Rules,
    VerdictState,
    group_numbers,
    independent_cases,
)
from tunegate_api.judging.paired import PairedCounts, is_at_least, is_below
from tunegate_api.judging.power import power_text
from tunegate_api.judging.verdict import judge_golden

NON_INFERIOR = Rules(policy=Policy.NON_INFERIOR)
IMPROVING = (0.0, 0.03, 0.2, 0.4)


def cases(*sizes: int) -> CaseSet:
    numbers = [number for number, size in enumerate(sizes) for _ in range(size)]
    ids = [f"case-{i}" for i in range(len(numbers))]
    groups = group_numbers([f"group-{number}" for number in numbers])
    return CaseSet(sha256="golden", ids=ids, groups=groups)


def distribution(
    sizes: Sequence[int], regressing: float, improving: float, equal: float
) -> dict[tuple[int, int], float]:
    """Return the probability of each number of regressed and improved cases. In a share ``equal`` of the
    groups all cases have the same outcome; in the others they are independent."""
    unchanged = max(0.0, 1 - regressing - improving)
    found = {(0, 0): 1.0}
    for size in sizes:
        group: dict[tuple[int, int], float] = defaultdict(float)
        for r in range(size + 1):
            for f in range(size + 1 - r):
                ways = comb(size, r) * comb(size - r, f)
                chance = regressing**r * improving**f * unchanged ** (size - r - f)
                group[r, f] += (1 - equal) * ways * chance
        group[size, 0] += equal * regressing
        group[0, size] += equal * improving
        group[0, 0] += equal * unchanged
        longer: dict[tuple[int, int], float] = defaultdict(float)
        for (r, f), chance in found.items():
            for (more_r, more_f), share in group.items():
                longer[r + more_r, f + more_f] += chance * share
        found = {counts: chance for counts, chance in longer.items() if chance > 1e-9}
    return found


@pytest.mark.parametrize("equal", [1.0, 0.5])
@pytest.mark.parametrize(
    ("sizes", "limit"),
    [([3] * 15, 20), ([1] * 10 + [2] * 8 + [4] * 2, 25), ([1] * 20 + [6], 25), ([10] + [1] * 10, 50)],
)
def test_groups_do_not_make_wrong_verdicts_more_likely(sizes, limit, equal):
    total, independent = sum(sizes), independent_cases(cases(*sizes))
    for improving in IMPROVING:
        regressing = improving + limit / 100
        if improving + regressing > 1:
            continue
        found = {
            PairedCounts(total, *counts, independent): chance
            for counts, chance in distribution(sizes, regressing, improving, equal).items()
        }
        assert sum(chance for c, chance in found.items() if is_below(c, Fraction(limit))) <= 0.05
        assert sum(chance for c, chance in found.items() if is_at_least(c, Fraction(limit))) <= 0.05


def test_ignoring_groups_would_pass_too_many_worse_models():
    found = distribution([3] * 15, 0.2, 0.0, 1.0)
    passing = sum(chance for c, chance in found.items() if is_below(PairedCounts(45, *c), Fraction(20)))
    assert passing > 0.1


@pytest.mark.parametrize(
    ("sizes", "independent"), [([1] * 9, 9), ([3] * 20, 20), ([10], 1), ([5, 1, 1, 1, 1, 1], 3)]
)
def test_cases_of_equal_groups_are_worth_the_number_of_groups(sizes, independent):
    assert independent_cases(cases(*sizes)) == independent


def test_groups_that_do_not_match_the_cases_are_worth_one_case():
    broken = CaseSet(sha256="golden", ids=["a", "b", "c"], groups=[0, 0])
    assert independent_cases(broken) == 1


def test_variants_of_one_prompt_do_not_pass_as_many_cases():
    base = {"BaseModel": Baseline("golden", "p" * 100)}
    assert judge_golden(cases(*[1] * 100), "p" * 100, NON_INFERIOR, base).state is VerdictState.PASSED
    verdict = judge_golden(cases(*[2] * 50), "p" * 100, NON_INFERIOR, base)
    assert verdict.state is VerdictState.INCONCLUSIVE
    assert verdict.message == (
        "golden 100/100, BaseModel 100/100: drop 0.0 points, 95 % bounds -5.9 and 5.8, groups count as 50 "
        "independent cases, limit 5.0: 50 independent cases are too few to show a smaller drop of a model "
        "with the same outcomes: have at least 59"
    )


def test_groups_do_not_change_verdicts_by_points():
    base = {"BaseModel": Baseline("golden", "p" * 100)}
    found = [
        judge_golden(case_set, "p" * 97 + "fff", Rules(), base)
        for case_set in (cases(*[2] * 50), cases(*[1] * 100))
    ]
    assert found[0] == found[1]


def test_power_is_that_of_independent_cases():
    assert power_text(cases(*[2] * 100), NON_INFERIOR) == (
        "groups count as 100 independent cases; " + power_text(100, NON_INFERIOR)
    )


def test_group_of_a_golden_case_is_part_of_the_reported_set():
    line = '{{"id": "{}", {}"prompt": "?", "expect": [{{"type": "contains", "value": "x"}}]}}\n'
    text = (
        line.format("a", '"group": "refunds", ')
        + line.format("b", "")
        + line.format("c", '"group": "refunds", ')
    )
    assert case_set(parse_golden(text), "golden").groups == [0, 1, 0]
    assert case_set(parse_golden(line.format("a", "") + line.format("b", "")), "golden").groups == []


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
def test_scaled_counts_never_show_a_smaller_drop(total, regressed, improved, independent):
    regressed = min(regressed, total)
    counts = PairedCounts(total, regressed, min(improved, total - regressed), min(independent, total))
    scaled = counts.of_independent
    assert scaled.drop >= counts.drop
    assert 0 <= scaled.regressed + scaled.improved <= scaled.total == counts.independent
