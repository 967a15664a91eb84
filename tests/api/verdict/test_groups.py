"""Golden cases in groups, such as variants of one prompt, are not counted as independent cases."""

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from math import comb
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.bars import golden_bar
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase, case_set
from tunegate_api.messages import Message
from tunegate_api.verdict.allowed_failures import allowed, default_limit
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.verdict.groups import changed_together, independent_cases
from tunegate_api.verdict.outcomes import (
    Baseline,
    CaseSet,
    DropPolicy,
    VerdictState,
    group_numbers,
)
from tunegate_api.verdict.paired import PairedCounts, is_at_least, is_below
from tunegate_api.verdict.power import missed_share, power_text

NON_INFERIOR = golden_bar(policy=DropPolicy.NON_INFERIOR)
IMPROVING = (0.0, 0.03, 0.2, 0.4)


def cases(*sizes: int) -> CaseSet:
    numbers = [number for number, size in enumerate(sizes) for _ in range(size)]
    ids = [f"case-{i}" for i in range(len(numbers))]
    groups = group_numbers([f"group-{number}" for number in numbers])
    return CaseSet(sha256="golden", ids=ids, groups=groups)


def worth(cases: CaseSet) -> int:
    return independent_cases(len(cases.ids), cases.groups)


def limit_of(*sizes: int) -> int:
    return allowed(None, sum(sizes), cases(*sizes).groups)


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
    total, independent = sum(sizes), worth(cases(*sizes))
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
    assert worth(cases(*sizes)) == independent


def test_groups_that_do_not_match_the_cases_count_as_one():
    broken = CaseSet(sha256="golden", ids=["a", "b", "c"], groups=[0, 0])
    assert worth(broken) == 1
    assert allowed(None, 3, broken.groups) == allowed(None, 3)


def test_variants_of_one_prompt_do_not_pass_as_many_cases():
    base = {"BaseModel": Baseline("golden", "p" * 100)}
    assert judge_golden(cases(*[1] * 100), "p" * 100, NON_INFERIOR, base).state is VerdictState.PASSED
    verdict = judge_golden(cases(*[2] * 50), "p" * 100, NON_INFERIOR, base)
    assert verdict.state is VerdictState.INCONCLUSIVE
    assert verdict.message == (
        "golden 100/100, BaseModel 100/100: drop 0.0 points, 90 % interval -5.9 to 5.8, groups count as 50 "
        "independent cases, limit 5.0: 50 independent cases are too few to show a smaller drop of a model "
        "with the same outcomes: have at least 59"
    )


def test_groups_do_not_change_points_with_a_new_failure_limit():
    base = {"BaseModel": Baseline("golden", "p" * 100)}
    found = [
        judge_golden(case_set, "p" * 97 + "fff", golden_bar(max_new_failures=9), base)
        for case_set in (cases(*[2] * 50), cases(*[1] * 100))
    ]
    assert found[0] == found[1]


def text_of(sizes: Sequence[int], rules: Bar) -> str:
    return power_text(sum(sizes), rules, cases(*sizes).groups)


@pytest.mark.parametrize("rules", [golden_bar(), NON_INFERIOR, golden_bar(max_drop_points=Fraction(20))])
def test_power_is_that_of_independent_cases(rules):
    assert text_of([2] * 100, rules) == ("groups count as 100 independent cases; " + power_text(100, rules))


QUARTERS = "".join(
    f'{{"id": "case-{i}", "prompt": "question {i // 4}", "expect": [{{"type": "contains", "value": "x"}}]}}\n'
    for i in range(100)
)
"""100 cases: 25 prompts, four times each."""


def test_cases_with_equal_prompts_are_one_group():
    found = case_set(parse_cases(QUARTERS, GoldenCase), "golden")
    assert found.groups == [i // 4 for i in range(100)]


def test_equal_prompts_join_the_groups_of_their_cases():
    cases = parse_cases(QUARTERS, GoldenCase)[:12]
    named = [case.model_copy(update={"group": "x"}) if i in (3, 4) else case for i, case in enumerate(cases)]
    assert case_set(named, "golden").groups == [0] * 8 + [1] * 4


def test_prompts_with_other_system_turns_or_tools_are_different():
    (one, *_) = parse_cases(QUARTERS, GoldenCase)
    turns = [Message(role="system", content="Be brief."), *one.turns]
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    others = [{"prompt": None, "messages": turns}, {"tools": tools}]
    found = [one, *(one.model_copy(update=other) for other in others)]
    assert case_set(found, "golden").groups == []


def test_non_inferior_refuses_a_worse_model_despite_repeated_prompts():
    """A model is worse by the limit of 5 points: one of 20 prompts regresses, with all four cases of it."""
    random, groups = Random(5), case_set(parse_cases(QUARTERS, GoldenCase), "golden")
    assert groups.groups, "equal prompts are a group"
    base = {"BaseModel": Baseline("golden", "p" * 100)}

    def passes() -> bool:
        letters = "".join("f" * 4 if random.random() < 0.05 else "p" * 4 for _ in range(25))
        return judge_golden(groups, letters, NON_INFERIOR, base).state is VerdictState.PASSED

    assert sum(passes() for _ in range(400)) <= 0.05 * 400


def test_group_of_a_golden_case_is_in_the_reported_set():
    line = '{{"id": "{0}", {1}"prompt": "{0}?", "expect": [{{"type": "contains", "value": "x"}}]}}\n'
    text = (
        line.format("a", '"group": "refunds", ')
        + line.format("b", "")
        + line.format("c", '"group": "refunds", ')
    )
    assert case_set(parse_cases(text, GoldenCase), "golden").groups == [0, 1, 0]
    alone = line.format("a", "") + line.format("b", "")
    assert case_set(parse_cases(alone, GoldenCase), "golden").groups == []


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
def test_scaled_counts_never_show_a_smaller_drop(total, regressed, improved, independent):
    regressed = min(regressed, total)
    counts = PairedCounts(total, regressed, min(improved, total - regressed), min(independent, total))
    scaled = counts.of_independent
    assert scaled.drop >= counts.drop
    assert 0 <= scaled.regressed + scaled.improved <= scaled.total == counts.independent


EQUAL_SIZES = [[5] * 20, [5] * 100, [4] * 25, [2] * 50, [10] * 10]
DIFFERENT_SIZES = [[1] * 50 + [2] * 10 + [5] * 6, [1] * 20 + [6], [10] + [1] * 10, [1, 2, 3, 4, 5, 6, 7, 8]]


@pytest.mark.parametrize("together", [1.0, 0.0])
@pytest.mark.parametrize("sizes", EQUAL_SIZES + DIFFERENT_SIZES)
def test_one_of_100_equal_models_exceeds_the_limit_of_groups(sizes, together):
    found = distribution(sizes, 0.04, 0.0, together)
    assert sum(chance for (regressed, _), chance in found.items() if regressed > limit_of(*sizes)) <= 0.01


@pytest.mark.parametrize("sizes", [*EQUAL_SIZES, *DIFFERENT_SIZES, [20] * 10])
def test_three_of_100_equal_models_with_groups_exceed_the_limit(sizes):
    """Each group changes together with the probability 0.8."""
    found = distribution(sizes, 0.04, 0.0, 0.8)
    assert sum(chance for (regressed, _), chance in found.items() if regressed > limit_of(*sizes)) <= 0.026


@pytest.mark.parametrize("sizes", EQUAL_SIZES + DIFFERENT_SIZES)
def test_default_limit_is_not_larger_than_needed(sizes):
    found = distribution(sizes, 0.04, 0.0, 1.0)
    assert sum(chance for (regressed, _), chance in found.items() if regressed >= limit_of(*sizes)) > 0.01


@pytest.mark.parametrize(("size", "groups"), [(5, 20), (5, 100), (4, 25), (2, 500), (1000, 1)])
def test_default_limit_of_equal_groups_is_that_of_the_groups(size, groups):
    assert limit_of(*[size] * groups) == size * limit_of(*[1] * groups)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60))
def test_groups_never_lower_the_default_limit(sizes):
    assert limit_of(*sizes) >= default_limit(sum(sizes))


@pytest.mark.parametrize(
    ("sizes", "ignoring"), [([5] * 20, 0.190), ([5] * 100, 0.106), ([8, 4, 2, 1] * 6, 0.11)]
)
def test_simulated_equal_models_rarely_have_too_many_new_failures(sizes, ignoring):
    random, rounds, total = Random(0), 1000, sum(sizes)
    base = {"BaseModel": Baseline("golden", "p" * total)}
    too_many = {"groups": 0, "no groups": 0}
    for _ in range(rounds):
        outcomes = "".join(("f" if random.random() < 0.04 else "p") * size for size in sizes)
        for name, judged in (("groups", cases(*sizes)), ("no groups", cases(*[1] * total))):
            verdict = judge_golden(judged, outcomes, golden_bar(max_drop_points=Fraction(100)), base)
            too_many[name] += verdict.state is VerdictState.FAILED
    assert too_many["groups"] / rounds <= 0.015
    assert too_many["no groups"] / rounds == pytest.approx(ignoring, abs=0.03)


@pytest.mark.parametrize("sizes", EQUAL_SIZES + DIFFERENT_SIZES)
def test_missed_share_of_groups_is_exact(sizes):
    total = sum(sizes)
    found = distribution(sizes, 0.09, 0.0, 1.0)
    for most in (0, total // 20, total // 4, total):
        expected = sum(chance for (regressed, _), chance in found.items() if regressed <= most)
        assert missed_share(total, most, 9.0, tuple(sizes)) == pytest.approx(expected, abs=1e-6)


def test_text_of_25_groups_of_four_names_the_detected_drop():
    assert text_of([4] * 25, golden_bar()) == (
        "groups count as 25 independent cases; a model that is worse by 5 points passes 64 of 100 "
        "comparisons, and one that is worse by 17.7 points at most 5 of 100"
    )
    assert missed_share(100, 4, 9.0, (4,) * 25) == pytest.approx(0.33, abs=0.005)


def test_too_few_groups_are_too_few_to_detect_a_drop():
    assert text_of([10] * 10, golden_bar()) == (
        "groups count as 10 independent cases; too few to detect a drop of 5 points, have at least 20"
    )


def test_allowed_new_failures_of_groups_are_whole_groups_in_text():
    rules = golden_bar(policy=DropPolicy.NON_INFERIOR, max_new_failures=3)
    assert text_of([2] * 200, rules).removeprefix("groups count as 200 independent cases; ") == (
        power_text(200, golden_bar(policy=DropPolicy.NON_INFERIOR, max_new_failures=1))
    )


def test_message_has_new_failure_limit_of_a_set_with_groups():
    base = {"BaseModel": Baseline("golden", "p" * 100)}
    rules = golden_bar(max_drop_points=Fraction(50))
    verdict = judge_golden(cases(*[5] * 20), "f" * 15 + "p" * 85, rules, base)
    assert verdict.state is VerdictState.PASSED
    assert "; new failures 15, at most 15: case-0, " in verdict.message
    assert judge_golden(cases(*[1] * 100), "f" * 15 + "p" * 85, rules, base).state is VerdictState.FAILED


def test_limit_of_1000_cases_in_groups_is_computed_exactly():
    sizes = [1] * 400 + [2] * 150 + [3] * 100
    count = {size: sizes.count(size) for size in sizes}

    def chances(groups: int, most: int) -> list[Fraction]:
        return [
            comb(groups, number) * Fraction(1, 25) ** number * Fraction(24, 25) ** (groups - number)
            for number in range(most + 1)
        ]

    assert sum(count.values()) == 650
    within = changed_together(sizes, chances, limit_of(*sizes))
    assert sum(within) >= Fraction(99, 100) > sum(within[:-1])
