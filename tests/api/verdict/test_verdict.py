"""Verdicts: tables of their arithmetic, and properties that hold for all outcomes."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.bars import golden_bar
from tunegate_api.verdict.allowed_failures import default_limit
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.best import Candidate, select_best
from tunegate_api.verdict.golden import judge_golden, judge_task
from tunegate_api.verdict.measured import Letters
from tunegate_api.verdict.outcomes import (
    Baseline,
    CaseSet,
    DropPolicy,
    VerdictState,
    points_text,
    rate_text,
    worst,
)
from tunegate_api.verdict.stop_rule import Assessment, StepOutcomes, StopAction, assess_checkpoint

PASSED, INCONCLUSIVE, ERROR, FAILED = (
    VerdictState.PASSED,
    VerdictState.INCONCLUSIVE,
    VerdictState.ERROR,
    VerdictState.FAILED,
)


def cases(n: int, tags: dict[int, str] | None = None) -> CaseSet:
    ids = [f"case-{i}" for i in range(n)]
    return CaseSet(
        sha256="golden", ids=ids, tags=[[(tags or {})[i]] if i in (tags or {}) else [] for i in range(n)]
    )


def base(outcomes: str | None, sha256: str = "golden") -> dict[str, Baseline]:
    return {"BaseModel": Baseline(sha256, outcomes)}


@pytest.mark.parametrize(
    ("what", "outcomes", "rules", "baselines", "state", "message"),
    [
        (
            "a rate exactly at the minimum passes",
            "p" * 90 + "f" * 10,
            golden_bar(min_pass_rate=Fraction(9, 10)),
            {},
            PASSED,
            "golden 90/100 = 0.90, required 0.90",
        ),
        (
            "one case below the minimum fails",
            "p" * 89 + "f" * 11,
            golden_bar(min_pass_rate=Fraction(9, 10)),
            {},
            FAILED,
            "golden 89/100 = 0.89, required 0.90",
        ),
        (
            "a drop of exactly the limit fails",
            "p" * 89 + "f" * 11,
            golden_bar(),
            base("p" * 94 + "f" * 6),
            FAILED,
            "golden 89/100, BaseModel 94/100: -5.0 points, limit -5.0; new failures 5, at most 9: case-89, "
            "case-90, case-91, case-92, case-93",
        ),
        (
            "a drop just inside the limit passes",
            "p" * 90 + "f" * 10,
            golden_bar(),
            base("p" * 94 + "f" * 6),
            PASSED,
            "golden 90/100 = 0.90; golden 90/100, BaseModel 94/100: -4.0 points, limit -5.0; "
            "new failures 4, at most 9: case-90, case-91, case-92, case-93",
        ),
        (
            "a truncated output does not pass",
            "p" * 89 + "t" * 11,
            golden_bar(min_pass_rate=Fraction(9, 10)),
            {},
            FAILED,
            "golden 89/100 = 0.89, required 0.90",
        ),
        (
            "an error that could change the result is an error",
            "p" * 89 + "f" * 10 + "e",
            golden_bar(min_pass_rate=Fraction(9, 10)),
            {},
            ERROR,
            "1 of 100 golden cases could not be measured; "
            "golden 89/100 = 0.89, required 0.90, 1 not measured",
        ),
        (
            "a failure that no error could change fails",
            "p" * 80 + "f" * 19 + "e",
            golden_bar(min_pass_rate=Fraction(9, 10)),
            {},
            FAILED,
            "golden 80/100 = 0.80, required 0.90",
        ),
        (
            "missing outcomes are errors",
            "p" * 99,
            golden_bar(),
            {},
            ERROR,
            "1 of 100 golden cases could not be measured",
        ),
        (
            "more outcomes than cases are an error",
            "p" * 101,
            golden_bar(),
            {},
            ERROR,
            "101 outcomes were reported for the 100 cases of the golden set",
        ),
        (
            "a baseline that was not measured is an error",
            "p" * 100,
            golden_bar(),
            base(None),
            ERROR,
            "BaseModel was not measured",
        ),
        (
            "a baseline of another golden set is an error",
            "p" * 100,
            golden_bar(),
            base("p" * 100, sha256="other"),
            ERROR,
            "BaseModel was measured on another golden set",
        ),
        (
            "an error in the baseline is an error",
            "p" * 100,
            golden_bar(),
            base("p" * 99 + "e"),
            ERROR,
            "golden 100/100, BaseModel 99/100: +1.0 points, limit -5.0, 1 not measured",
        ),
        (
            "a truncated baseline that decides is inconclusive",
            "p" * 90 + "f" * 10,
            golden_bar(),
            base("p" * 80 + "t" * 15 + "f" * 5),
            INCONCLUSIVE,
            "golden 90/100, BaseModel 80/100: +10.0 points, limit -5.0, but 15 outputs of BaseModel were "
            "truncated, and if they had passed, this would be a drop: raise generation.maxNewTokens",
        ),
        (
            "a truncated baseline that is beaten anyway passes",
            "p" * 91 + "f" * 9,
            golden_bar(),
            base("p" * 80 + "t" * 15 + "f" * 5),
            PASSED,
            "golden 91/100 = 0.91; golden 91/100, BaseModel 80/100: +11.0 points, limit -5.0",
        ),
        (
            "a baseline with few truncated outputs passes",
            "p" * 90 + "f" * 10,
            golden_bar(),
            base("p" * 90 + "t" * 5 + "f" * 5),
            PASSED,
            "golden 90/100 = 0.90; golden 90/100, BaseModel 90/100: +0.0 points, limit -5.0",
        ),
        (
            "a drop below a truncated baseline fails",
            "p" * 70 + "f" * 30,
            golden_bar(),
            base("p" * 80 + "t" * 20),
            FAILED,
            "golden 70/100, BaseModel 80/100: -10.0 points, limit -5.0; new failures 10, at most 9: case-70, "
            "case-71, case-72, case-73, case-74 and 5 more",
        ),
        (
            "ten fixes do not hide ten new failures",
            "p" * 80 + "f" * 10 + "p" * 10,
            golden_bar(),
            base("p" * 90 + "f" * 10),
            FAILED,
            "golden 90/100, BaseModel 90/100: +0.0 points, limit -5.0; new failures 10, at most 9: case-80, "
            "case-81, case-82, case-83, case-84 and 5 more",
        ),
        (
            "a truncated output is a new failure",
            "t" + "p" * 99,
            golden_bar(max_new_failures=0),
            base("p" * 99 + "f"),
            FAILED,
            "golden 99/100, BaseModel 99/100: +0.0 points, limit -5.0; new failures 1, at most 0: case-0",
        ),
        (
            "a share of new failures is of all cases, rounded down",
            "f" * 2 + "p" * 98,
            golden_bar(max_new_failures=Fraction(29, 1000)),
            base("p" * 100),
            PASSED,
            "golden 98/100 = 0.98; golden 98/100, BaseModel 100/100: -2.0 points, limit -5.0; "
            "new failures 2, at most 2: case-0, case-1",
        ),
        (
            "a case that was not measured is no new failure, but an error",
            "e" + "p" * 99,
            golden_bar(max_new_failures=0),
            base("p" * 100),
            ERROR,
            "1 of 100 golden cases could not be measured; golden 99/100, BaseModel 100/100: -1.0 points, "
            "limit -5.0, 1 not measured",
        ),
        (
            "truncated outputs of the baseline that could be new failures are inconclusive",
            "f" * 6 + "p" * 94,
            golden_bar(max_new_failures=3),
            base("t" * 6 + "p" * 90 + "f" * 4),
            INCONCLUSIVE,
            "golden 94/100, BaseModel 90/100: +4.0 points, limit -5.0, but 6 outputs of BaseModel were "
            "truncated, and if they had passed, this would be too many new failures: raise "
            "generation.maxNewTokens",
        ),
        (
            "new failures are not compared if only the number of passed cases is known",
            "f" * 10 + "p" * 90,
            golden_bar(),
            {"LastPublished": Baseline("golden", "p" * 90 + "f" * 10, by_case=False)},
            PASSED,
            "golden 90/100 = 0.90; golden 90/100, LastPublished 90/100: +0.0 points, limit -5.0; new "
            "failures unknown, because only the number of cases that LastPublished passes is recorded",
        ),
        (
            "unknown new failures do not pass a limit that the user set",
            "p" * 100,
            golden_bar(max_new_failures=3),
            {"LastPublished": Baseline("golden", "p" * 90 + "f" * 10, by_case=False)},
            INCONCLUSIVE,
            "golden 100/100, LastPublished 90/100: +10.0 points, limit -5.0; new failures unknown, because "
            "only the number of cases that LastPublished passes is recorded: publish another version, which "
            "records them, or remove maxNewFailures",
        ),
        (
            "unknown new failures pass at a checkpoint if they will be known later",
            "p" * 100,
            golden_bar(max_new_failures=3),
            {"LastPublished": Baseline("golden", "p" * 90 + "f" * 10, by_case=False, by_case_later=True)},
            PASSED,
            "golden 100/100 = 1.00; golden 100/100, LastPublished 90/100: +10.0 points, limit -5.0; new "
            "failures unknown, because only the number of cases that LastPublished passes is recorded",
        ),
        (
            "a failed critical case fails at any rate",
            "f" + "p" * 99,
            golden_bar(must_pass=("case-0",)),
            {},
            FAILED,
            "critical case-0: case-0 failed",
        ),
        (
            "a critical case that was not measured is an error",
            "e" + "p" * 99,
            golden_bar(must_pass=("case-0",)),
            {},
            ERROR,
            "1 of 100 golden cases could not be measured; critical case-0: 0 passed, 1 not measured",
        ),
        (
            "a critical rule that names no case is an error",
            "p" * 100,
            golden_bar(must_pass=("no-such",)),
            {},
            ERROR,
            "critical no-such: no golden case has this id or tag",
        ),
    ],
)
def test_golden_set_is_judged_by_thresholds_and_baselines(what, outcomes, rules, baselines, state, message):
    verdict = judge_golden(cases(100), outcomes, rules, baselines)
    assert verdict.state is state, what
    assert verdict.message == message


def test_golden_set_too_small_for_the_maximum_drop_is_inconclusive():
    verdict = judge_golden(cases(10), "p" * 10, golden_bar(), base("p" * 10))
    assert verdict.state is INCONCLUSIVE
    assert verdict.message == (
        "golden 10/10, BaseModel 10/10: +0.0 points, limit -5.0: 10 golden cases are too few to detect a "
        "drop of 5 points below BaseModel: have at least 20"
    )


def test_golden_set_suffices_if_one_case_equals_max_drop_points():
    assert judge_golden(cases(20), "p" * 20, golden_bar(), base("p" * 20)).state is PASSED


def test_drop_on_a_too_small_set_is_failed_not_inconclusive():
    assert judge_golden(cases(10), "p" * 9 + "f", golden_bar(), base("p" * 10)).state is FAILED


def test_empty_golden_set_is_an_error():
    assert judge_golden(cases(0), "", golden_bar(), {}).state is ERROR


def test_must_pass_tag_applies_to_all_cases_with_the_tag():
    tagged = cases(25, {3: "pii", 7: "pii"})
    outcomes = "".join("f" if i in (3, 7) else "p" for i in range(25))
    verdict = judge_golden(tagged, outcomes, golden_bar(must_pass=("pii",)), {})
    assert verdict.message == "critical pii: case-3, case-7 failed"


def test_difference_to_each_baseline_is_exact():
    verdict = judge_golden(cases(48), "p" * 40 + "f" * 8, golden_bar(), base("p" * 10 + "f" * 38))
    assert verdict.delta_points == {"BaseModel": Fraction(3000, 48)}
    assert (verdict.passed, verdict.total) == (40, 48)


@pytest.mark.parametrize(
    ("outcomes", "state", "message"),
    [
        ("pppf", PASSED, "f1 3/4 = 0.75, required 0.75"),
        ("ppff", FAILED, "f1 2/4 = 0.50, required 0.75"),
        ("ppef", ERROR, "f1 2/4 = 0.50, required 0.75, 1 not measured"),
        ("", INCONCLUSIVE, "f1: no held-out rows to measure on"),
    ],
)
def test_task_metric_is_judged_by_its_pass_rate(outcomes, state, message):
    rows = cases(len(outcomes))
    finding = judge_task("f1", rows, Letters(outcomes, len(outcomes)), Fraction(3, 4))
    assert (finding.state, finding.message) == (state, message)


def test_threshold_with_many_digits_is_shown_in_full():
    finding = judge_task("f1", cases(2), Letters("pf", 2), Fraction("0.4567"))
    assert finding.message == "f1 1/2 = 0.50, required 0.4567"


def test_worst_finding_determines_the_verdict():
    assert worst([PASSED, INCONCLUSIVE]) is INCONCLUSIVE
    assert worst([INCONCLUSIVE, ERROR, PASSED]) is ERROR
    assert worst([ERROR, FAILED]) is FAILED
    assert worst([]) is ERROR


def test_rates_and_percentage_points_are_truncated_not_rounded():
    assert rate_text(Fraction(899, 1000)) == "0.89"
    assert rate_text(Fraction(1)) == "1.00"
    assert points_text(Fraction(-499, 100)) == "-4.9"
    assert points_text(Fraction(-5)) == "-5.0"
    assert points_text(Fraction(25, 4)) == "+6.2"
    assert points_text(Fraction(0)) == "+0.0"


# The stop rule

DEFAULTS = golden_bar()


def history(*passed: int, total: int = 100) -> list[StepOutcomes]:
    return [StepOutcomes(10 * i, "p" * n + "f" * (total - n)) for i, n in enumerate(passed)]


def assess(*passed: int, rules: Bar = DEFAULTS) -> Assessment:
    return assess_checkpoint(cases(100), rules, history(*passed))


@pytest.mark.parametrize(
    ("what", "passed", "action"),
    [
        ("the starting model alone", [90], StopAction.CONTINUE),
        ("a checkpoint as good as the start", [90, 90], StopAction.CONTINUE),
        ("a drop inside the limit", [90, 86], StopAction.CONTINUE),
        ("a first drop of the limit", [90, 85], StopAction.CHECK_EARLY),
        ("a confirmed drop", [90, 85, 85], StopAction.STOP),
        ("a drop from the best checkpoint, not the start", [10, 90, 85], StopAction.CHECK_EARLY),
        ("a slow decline below the best checkpoint", [90, 88, 86, 84], StopAction.CHECK_EARLY),
        ("a drop that recovered", [90, 85, 90], StopAction.CONTINUE),
        ("a drop, a recovery, another drop", [90, 85, 90, 85], StopAction.CHECK_EARLY),
        ("a drop confirmed by a smaller drop", [90, 70, 85], StopAction.STOP),
    ],
)
def test_stop_rule_stops_only_after_a_confirmed_drop(what, passed, action):
    assert assess(*passed).action is action, what


def test_immediate_stop_policy_stops_at_the_first_drop():
    assert assess(90, 85, rules=golden_bar(confirm=False)).action is StopAction.STOP
    assert assess(90, 86, rules=golden_bar(confirm=False)).action is StopAction.CONTINUE


def test_stop_message_has_the_arithmetic_and_regressed_cases():
    stop = assess(10, 95, 87, 85)
    assert (
        stop.message
        == "golden 85/100 at step 30, best 95/100 at step 10: -10.0 points, limit -5.0, confirmed"
    )
    assert stop.regressed == tuple(f"case-{i}" for i in range(85, 95))
    assert (stop.best_step, stop.best_passed, stop.regressing, stop.must_pass) == (10, 95, True, False)


def test_stop_message_names_the_starting_model_if_best():
    assert assess(95, 85).message == (
        "golden 85/100 at step 10, starting model 95/100: -10.0 points, limit -5.0"
    )


def test_first_of_equal_checkpoints_is_the_best():
    assert assess(50, 90, 90, 84).best_step == 10


def test_must_pass_case_that_fails_after_passing_stops_training():
    rules = golden_bar(must_pass=("case-1",))
    measured = [
        StepOutcomes(0, "ff" + "p" * 98),
        StepOutcomes(10, "fp" + "p" * 98),
        StepOutcomes(20, "pf" + "p" * 98),
    ]
    stop = assess_checkpoint(cases(100), rules, measured)
    assert (stop.action, stop.must_pass, stop.regressed) == (StopAction.STOP, True, ("case-1",))
    assert stop.message == "case-1 must always pass, passed before, and fails at step 20"


def test_must_pass_case_that_never_passed_does_not_stop_training():
    rules = golden_bar(must_pass=("case-1",))
    measured = [StepOutcomes(0, "pf" + "p" * 98), StepOutcomes(10, "pf" + "p" * 98)]
    assert assess_checkpoint(cases(100), rules, measured).action is StopAction.CONTINUE


def test_unmeasured_outcomes_do_not_stop_training():
    measured = [StepOutcomes(0, "p" * 100), StepOutcomes(10, "p" * 90 + "e" * 10)]
    assert assess_checkpoint(cases(100), golden_bar(), measured).action is StopAction.CONTINUE


def test_stop_rule_without_a_starting_model_raises_value_error():
    with pytest.raises(ValueError, match="must begin with the starting model"):
        assess_checkpoint(cases(100), golden_bar(), [])


# The relative drop


@pytest.mark.parametrize(
    ("what", "passed", "base_passed", "state", "message"),
    [
        (
            "half of a low base rate may be lost",
            8,
            16,
            PASSED,
            "golden 8/200 = 0.04; golden 8/200, BaseModel 16/200: -4.0 points, limit -5.0; lost 8/16 = 0.50, "
            "at most 0.50; new failures 8, at most 15: case-8, case-9, case-10, case-11, case-12 and 3 more",
        ),
        (
            "more than half fails, although the points pass",
            7,
            16,
            FAILED,
            "golden 7/200, BaseModel 16/200: -4.5 points, limit -5.0; lost 9/16 = 0.56, at most 0.50; new "
            "failures 9, at most 15: case-7, case-8, case-9, case-10, case-11 and 4 more",
        ),
        (
            "a baseline that passes nothing has nothing to lose",
            0,
            0,
            PASSED,
            "golden 0/200 = 0.00; golden 0/200, BaseModel 0/200: +0.0 points, limit -5.0, so no model "
            "could fail this comparison",
        ),
        (
            "a better model loses nothing",
            20,
            16,
            PASSED,
            "golden 20/200 = 0.10; golden 20/200, BaseModel 16/200: +2.0 points, limit -5.0; lost 0/16 = "
            "0.00, at most 0.50",
        ),
    ],
)
def test_relative_drop_limits_the_lost_share_of_passed_cases(what, passed, base_passed, state, message):
    rules = golden_bar(max_relative_drop=Fraction(1, 2))
    outcomes, before = "p" * passed + "f" * (200 - passed), "p" * base_passed + "f" * (200 - base_passed)
    verdict = judge_golden(cases(200), outcomes, rules, base(before))
    assert verdict.state is state, what
    assert verdict.message == message


def test_relative_drop_counts_unmeasured_cases_as_passed():
    rules, before = golden_bar(max_relative_drop=Fraction(1, 2)), base("p" * 16 + "f" * 184)
    assert judge_golden(cases(200), "p" * 7 + "f" * 192 + "e", rules, before).state is ERROR
    assert judge_golden(cases(200), "p" * 6 + "f" * 193 + "e", rules, before).state is FAILED


def test_relative_drop_below_a_truncated_baseline_is_inconclusive():
    rules = golden_bar(max_relative_drop=Fraction(1, 2), max_drop_points=Fraction(50))
    before = base("p" * 16 + "t" * 20 + "f" * 164)
    verdict = judge_golden(cases(200), "p" * 16 + "f" * 184, rules, before)
    assert verdict.state is INCONCLUSIVE
    assert "20 outputs of BaseModel were truncated" in verdict.message
    assert "this would be too large a relative drop: raise generation.maxNewTokens" in verdict.message


# The policy NonInferior

NON_INFERIOR = golden_bar(policy=DropPolicy.NON_INFERIOR)


@pytest.mark.parametrize(
    ("what", "outcomes", "baseline", "state", "message"),
    [
        (
            "an upper bound below the limit passes",
            "p" * 99 + "f",
            "p" * 100,
            PASSED,
            "golden 99/100 = 0.99; golden 99/100, BaseModel 100/100: drop 1.0 points, 90 % interval -1.7 to "
            "4.6, limit 5.0; new failures 1, at most 11: case-99",
        ),
        (
            "a limit between the bounds is inconclusive",
            "p" * 98 + "ff",
            "p" * 100,
            INCONCLUSIVE,
            "golden 98/100, BaseModel 100/100: drop 2.0 points, 90 % interval -0.9 to 6.1, limit 5.0; new "
            "failures 2, at most 11: case-98, case-99: the limit is between the bounds, so have more golden "
            "cases",
        ),
        (
            "a drop of the limit that may be chance is inconclusive",
            "p" * 95 + "f" * 5,
            "p" * 100,
            INCONCLUSIVE,
            "golden 95/100, BaseModel 100/100: drop 5.0 points, 90 % interval 1.5 to 10.2, limit 5.0; new "
            "failures 5, at most 11: case-95, case-96, case-97, case-98, case-99: the limit is between the "
            "bounds, so have more golden cases",
        ),
        (
            "a lower bound at or above the limit fails",
            "p" * 89 + "f" * 11,
            "p" * 100,
            FAILED,
            "golden 89/100, BaseModel 100/100: drop 11.0 points, 90 % interval 6.2 to 17.5, limit 5.0; new "
            "failures 11, at most 11: case-89, case-90, case-91, case-92, case-93 and 6 more",
        ),
        (
            "a case that was not measured is an error",
            "p" * 99 + "e",
            "p" * 100,
            ERROR,
            "1 of 100 golden cases could not be measured; golden 99/100, BaseModel 100/100: drop 1.0 points, "
            "limit 5.0, 1 not measured",
        ),
        (
            "a drop that no unmeasured case could change fails",
            "p" * 88 + "f" * 11 + "e",
            "p" * 100,
            FAILED,
            "golden 88/100, BaseModel 100/100: drop 12.0 points, limit 5.0; new failures 11, at most 11: "
            "case-88, case-89, case-90, case-91, case-92 and 6 more",
        ),
        (
            "an error in the baseline is an error",
            "p" * 100,
            "p" * 99 + "e",
            ERROR,
            "golden 100/100, BaseModel 99/100: drop -1.0 points, limit 5.0, 1 not measured",
        ),
        (
            "too many new failures fail at any drop",
            "p" * 78 + "f" * 12 + "p" * 10,
            "p" * 90 + "f" * 10,
            FAILED,
            "golden 88/100, BaseModel 90/100: drop 2.0 points, 90 % interval -6.2 to 10.2, limit 5.0; new "
            "failures 12, at most 11: case-78, case-79, case-80, case-81, case-82 and 7 more",
        ),
        (
            "a truncated baseline that decides is inconclusive",
            "p" * 90 + "f" * 10,
            "p" * 80 + "t" * 15 + "f" * 5,
            INCONCLUSIVE,
            "golden 90/100, BaseModel 80/100: drop -10.0 points, 90 % interval -16.4 to -5.5, limit 5.0, but "
            "15 outputs of BaseModel were truncated, and if they had passed, this would be undecided: raise "
            "generation.maxNewTokens",
        ),
        (
            "a truncated baseline that is beaten anyway passes",
            "p" * 100,
            "p" * 80 + "t" * 20,
            PASSED,
            "golden 100/100 = 1.00; golden 100/100, BaseModel 80/100: drop -20.0 points, 90 % interval -27.8 "
            "to -13.7, limit 5.0",
        ),
    ],
)
def test_non_inferior_compares_the_bounds_with_the_limit(what, outcomes, baseline, state, message):
    rules = golden_bar(policy=DropPolicy.NON_INFERIOR, max_new_failures=11)
    verdict = judge_golden(cases(100), outcomes, rules, base(baseline))
    assert verdict.state is state, what
    assert verdict.message == message


def test_non_inferior_passes_an_unchanged_model_from_59_cases():
    few = judge_golden(cases(58), "p" * 58, NON_INFERIOR, base("p" * 58))
    assert few.state is INCONCLUSIVE
    assert few.message == (
        "golden 58/58, BaseModel 58/58: drop 0.0 points, 90 % interval -5.1 to 5.0, limit 5.0: 58 golden "
        "cases are too few to show a smaller drop of a model with the same outcomes: have at least 59"
    )
    assert judge_golden(cases(59), "p" * 59, NON_INFERIOR, base("p" * 59)).state is PASSED


def test_non_inferior_passes_model_that_fixes_many_of_few_cases():
    assert judge_golden(cases(48), "p" * 42 + "f" * 6, NON_INFERIOR, base("f" * 48)).state is PASSED


def test_non_inferior_is_inconclusive_if_cases_cannot_be_paired():
    unpaired = {"LastPublished": Baseline("golden", "p" * 90 + "f" * 10, by_case=False)}
    verdict = judge_golden(cases(100), "p" * 100, NON_INFERIOR, unpaired)
    assert verdict.state is INCONCLUSIVE
    assert verdict.message == (
        "golden 100/100, LastPublished 90/100: drop -10.0 points, limit 5.0; new failures unknown, because "
        "only the number of cases that LastPublished passes is recorded: publish another version, which "
        "records them, or leave test out"
    )


def test_non_inferior_judges_by_points_until_cases_are_read():
    later = {"LastPublished": Baseline("golden", "p" * 90 + "f" * 10, by_case=False, by_case_later=True)}
    assert judge_golden(cases(100), "p" * 86 + "f" * 14, NON_INFERIOR, later).state is PASSED
    assert judge_golden(cases(100), "p" * 85 + "f" * 15, NON_INFERIOR, later).state is FAILED


# The best checkpoint


def candidate(step: int, golden: str, dev: str, verdict: VerdictState = PASSED) -> Candidate:
    return Candidate(step, verdict, Fraction(golden), Fraction(dev))


@pytest.mark.parametrize(
    ("what", "candidates", "step"),
    [
        ("the highest golden rate", [candidate(1, "0.8", "0.9"), candidate(2, "0.9", "0.1")], 2),
        (
            "the highest dev metric if rates are equal",
            [candidate(1, "0.9", "0.1"), candidate(2, "0.9", "0.2")],
            2,
        ),
        ("the earliest if metrics are equal", [candidate(2, "0.9", "0.2"), candidate(1, "0.9", "0.2")], 1),
        ("only passed checkpoints", [candidate(1, "0.99", "1", FAILED), candidate(2, "0.8", "0")], 2),
        (
            "no inconclusive checkpoint",
            [candidate(1, "1", "1", INCONCLUSIVE), candidate(2, "0", "0")],
            2,
        ),
    ],
)
def test_best_checkpoint_has_highest_golden_rate_then_dev_metric(what, candidates, step):
    best = select_best(candidates)
    assert best is not None, what
    assert best.step == step, what


def test_no_checkpoint_is_selected_if_none_passed():
    assert select_best([candidate(1, "1", "1", FAILED), candidate(2, "1", "1", ERROR)]) is None
    assert select_best([]) is None


# What holds for any outcomes

letters = st.text(alphabet="pfte", min_size=25, max_size=60)
fractions = st.fractions(min_value=0, max_value=1, max_denominator=50)


@st.composite
def judged(draw: st.DrawFn) -> tuple[CaseSet, str, dict[str, Baseline]]:
    outcomes = draw(letters)
    n = len(outcomes)
    before = draw(st.text(alphabet="pft", min_size=n, max_size=n))
    rules = golden_bar(
        min_pass_rate=draw(st.none() | fractions),
        policy=draw(st.sampled_from(DropPolicy)),
        max_drop_points=draw(st.fractions(min_value=Fraction(1, 10), max_value=100, max_denominator=10)),
        max_relative_drop=draw(st.none() | fractions),
        max_new_failures=draw(st.none() | st.integers(0, n) | fractions),
        must_pass=tuple(draw(st.lists(st.sampled_from([f"case-{i}" for i in range(n)]), max_size=3))),
    )
    return cases(n), outcomes, rules, base(before)


@pytest.mark.parametrize(("total", "limit"), [(1, 1), (20, 3), (50, 6), (100, 9), (200, 15), (500, 31)])
def test_default_new_failures_is_99th_percentile_of_equal_models(total, limit):
    from scipy.stats import binom

    assert default_limit(total) == limit
    assert binom.cdf(limit, total, 0.04) >= 0.99 > binom.cdf(limit - 1, total, 0.04)


@given(judged(), st.data())
def test_missing_or_erroneous_outcome_never_passes(drawn, data):
    case_set, outcomes, rules, baselines = drawn
    at = data.draw(st.integers(0, len(outcomes) - 1))
    for broken in (
        outcomes[:at],
        outcomes[:at] + "e" + outcomes[at + 1 :],
        outcomes[:at] + "?" + outcomes[at + 1 :],
    ):
        assert judge_golden(case_set, broken, rules, baselines).state in (ERROR, FAILED)


@given(judged())
def test_truncated_case_counts_as_failed(drawn):
    case_set, outcomes, rules, baselines = drawn
    as_failed = judge_golden(case_set, outcomes.replace("t", "f"), rules, baselines)
    assert judge_golden(case_set, outcomes, rules, baselines) == as_failed


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_truncated_baseline_outputs_count_as_passed_in_a_comparison(passed, base_passed, cut):
    base_passed, cut = min(base_passed, passed), min(6 + cut, 100 - min(base_passed, passed))
    before = "p" * base_passed + "t" * cut + "f" * (100 - base_passed - cut)
    outcomes = "p" * passed + "f" * (100 - passed)
    found = judge_golden(cases(100), outcomes, golden_bar(), base(before)).state
    at_best = judge_golden(cases(100), outcomes, golden_bar(), base(before.replace("t", "p"))).state
    assert cut <= 5 or found is (PASSED if at_best is PASSED else INCONCLUSIVE)


@given(judged(), st.data())
def test_failing_one_more_case_never_improves_a_verdict(drawn, data):
    case_set, outcomes, rules, baselines = drawn
    passing = [i for i, letter in enumerate(outcomes) if letter == "p"]
    if not passing:
        return
    at = data.draw(st.sampled_from(passing))
    before = judge_golden(case_set, outcomes, rules, baselines)
    for worse in "fte":
        after = judge_golden(case_set, outcomes[:at] + worse + outcomes[at + 1 :], rules, baselines)
        assert after.state.severity >= before.state.severity


@given(judged(), st.randoms(use_true_random=False))
def test_order_of_cases_never_changes_a_verdict(drawn, random):
    case_set, outcomes, rules, baselines = drawn
    order = list(range(len(outcomes)))
    random.shuffle(order)
    shuffled = CaseSet(
        sha256=case_set.sha256,
        ids=[case_set.ids[i] for i in order],
        tags=[case_set.tags[i] for i in order],
    )
    baseline = baselines["BaseModel"].outcomes or ""
    before = judge_golden(case_set, outcomes, rules, baselines)
    after = judge_golden(
        shuffled,
        "".join(outcomes[i] for i in order),
        rules,
        base("".join(baseline[i] for i in order)),
    )
    assert (after.state, after.passed, after.delta_points) == (
        before.state,
        before.passed,
        before.delta_points,
    )


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_confirm_policy_never_stops_where_immediate_policy_continues(passed):
    if assess(*passed).action is StopAction.STOP:
        assert assess(*passed, rules=golden_bar(confirm=False)).action is StopAction.STOP


@given(st.lists(st.integers(0, 100), min_size=2, max_size=8))
def test_rate_equal_to_the_best_is_never_a_regression(passed):
    if passed[-1] >= max(passed[:-1]):
        assert assess(*passed).action is StopAction.CONTINUE
