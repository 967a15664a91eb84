"""The stop rule of task metrics, on a stage whose golden cases stay the same."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import make_gate, make_job
from support.judgements.objects import METRIC_TYPES
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set, task_set
from tunegate_api.judging.stages import StageAssessment, assess_stage, referenced_checkpoints
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_api.verdict.stop_rule import StopAction

SHA = "a" * 64
STAGE, GOLDEN = "sft", golden_set("golden")
ROWS = [f"row-{i}" for i in range(10)]


def request(
    name: str,
    *,
    limit: str | None = "10",
    on_regression: str = "Confirm",
    golden_limit: str = "5",
    **metric: Any,
) -> Request:
    gate = make_gate().with_golden(rules=[], checkpoints={"failAtDrop": f"{golden_limit}%"}).spec
    checkpoints = {"failAtDrop": f"{limit}%", "onRegression": on_regression}
    limits = {} if limit is None else {"checkpoints": checkpoints}
    metrics = [{"name": name, "type": METRIC_TYPES[name], "min": "0%"} | limits | metric]
    return Request(
        name="orders",
        namespace="default",
        uid="u",
        spec=FineTuneJobSpec.model_validate(make_job().spec | {"taskMetrics": metrics}),
        gates=[
            GateRequest(name="golden", spec=EvalGateSpec.model_validate(gate), golden_sha256=SHA),
        ],
    )


def results(
    metric: str, *steps: tuple[str, str | None], golden: str = "pppp", rows: list[str] = ROWS
) -> Results:
    """Return evaluations of a starting model and of a checkpoint every ten steps, each with the outcomes and
    the entries of the dev rows."""
    dev = task_set("dev", metric)
    return Results(
        sets={
            GOLDEN: CaseSet(sha256=SHA, ids=[f"case-{i}" for i in range(4)]),
            dev: CaseSet(sha256="b" * 64, ids=rows),
        },
        evaluations=[
            Evaluation(
                subject=Subject.CHECKPOINT if number else Subject.START,
                stage=STAGE,
                step=10 * number,
                outcomes={GOLDEN: golden, dev: letters},
                counts=None if entries is None else {dev: entries},
            )
            for number, (letters, entries) in enumerate(steps)
        ],
    )


def labels(right: int, total: int = 10) -> tuple[str, str]:
    """Return the outcomes and entries of F1 with ``right`` correct labels."""
    entries = ["0>0"] * right + ["0>1"] * (total - right)
    return "p" * right + "f" * (total - right), " ".join(entries)


def overlaps(*numerators: int) -> tuple[str, str]:
    """Return the outcomes and entries of ROUGE-L, with these numerators of ten."""
    return "f" * len(numerators), " ".join(f"{n}/10" for n in numerators)


def letters(outcomes: str) -> tuple[str, None]:
    return outcomes, None


def assess(asked: Request, measured: Results, accepted: int = 0) -> StageAssessment:
    found = assess_stage(asked, measured, STAGE, accepted)
    assert found is not None
    return found


def test_drop_of_f1_is_checked_early_then_stops_training():
    first = assess(request("f1"), results("f1", labels(2), labels(9), labels(7)))
    assert (first.gate, first.metric, first.step) == (None, "f1", 20)
    assert first.assessment.action is StopAction.CHECK_EARLY
    second = assess(request("f1"), results("f1", labels(2), labels(9), labels(7), labels(8)))
    assert second.assessment.action is StopAction.STOP
    assert second.assessment.message == (
        "f1 8/10 at step 30, best 9/10 at step 10: -10.0 points, limit -10.0, confirmed"
    )
    assert (second.assessment.best_step, second.assessment.regressed) == (10, ("row-8",))


def test_recovered_metric_does_not_stop_training():
    found = assess(request("f1"), results("f1", labels(9), labels(7), labels(9), labels(8)))
    assert found.assessment.action is StopAction.CHECK_EARLY
    assert found.assessment.message.startswith("f1 8/10 at step 30, starting model 9/10: -10.0 points")


@pytest.mark.parametrize(
    ("metric", "steps", "message"),
    [
        (
            {"name": "f1", "type": "F1", "average": "Macro"},
            [labels(9), labels(5)],
            "f1 0.66 at step 10, starting model 0.94: -28.0 points, limit -10.0",
        ),
        (
            {"name": "rouge_l", "type": "RougeL"},
            [overlaps(9, 9), overlaps(9, 7)],
            "rouge_l 0.80 at step 10, starting model 0.90: -10.0 points, limit -10.0",
        ),
        (
            {"name": "exact_match", "type": "ExactMatch"},
            [letters("pppppppppf"), letters("ppppppppff")],
            "exact_match 8/10 at step 10, starting model 9/10: -10.0 points, limit -10.0",
        ),
    ],
)
def test_immediate_metric_stops_at_its_first_drop(metric, steps, message):
    name, rows = metric["name"], ROWS[: len(steps[0][0])]
    asked = request(**metric, on_regression="Immediate")
    found = assess(asked, results(name, *steps, rows=rows))
    assert (found.metric, found.assessment.action) == (name, StopAction.STOP)
    assert found.assessment.message == message


def test_metric_without_a_limit_never_stops_training():
    found = assess(request("f1", limit=None), results("f1", labels(10), labels(0), labels(0)))
    assert (found.gate, found.assessment.action) == ("golden", StopAction.CONTINUE)


def test_rows_that_were_not_measured_do_not_stop_training():
    unmeasured = "p" * 8 + "ee", " ".join(["0>0"] * 8 + ["-", "-"])
    asked = request("f1", on_regression="Immediate")
    found = assess(asked, results("f1", labels(10), unmeasured))
    assert found.assessment.action is StopAction.CONTINUE
    worse = "p" * 7 + "ff" + "e", " ".join(["0>0"] * 7 + ["0>1", "0>1", "-"])
    found = assess(asked, results("f1", labels(10), worse))
    assert found.assessment.action is StopAction.STOP, "also if the last row were right"
    assert found.assessment.message == (
        "f1 at most 8/10, 1 row not measured at step 10, starting model 10/10: -20.0 points, limit -10.0"
    )


def test_step_without_all_rows_is_never_the_best():
    unmeasured = "p" * 9 + "e", " ".join(["0>0"] * 9 + ["-"])
    measured = results("f1", labels(5), unmeasured, labels(6))
    assert assess(request("f1"), measured).assessment.best_step == 0


def test_empty_dev_split_has_no_stop_rule():
    found = assess(request("f1"), results("f1", ("", ""), ("", ""), rows=[]))
    assert found.gate == "golden"


def test_gate_is_named_if_it_and_a_metric_stop_together():
    asked = request("f1", on_regression="Immediate")
    measured = results("f1", labels(9), labels(1))
    worse = measured.evaluations[1].model_copy(
        update={"outcomes": measured.evaluations[1].outcomes | {GOLDEN: "ffff"}}
    )
    measured = measured.model_copy(update={"evaluations": [measured.evaluations[0], worse]})
    assert assess(asked, measured).metric == "f1", "the gate only checks early"
    spec = asked.gates[0].spec.to_wire()
    spec["sets"][0]["checkpoints"]["onRegression"] = "Immediate"
    gate = asked.gates[0].model_copy(update={"spec": EvalGateSpec.model_validate(spec)})
    both = assess(asked.model_copy(update={"gates": [gate]}), measured)
    assert (both.gate, both.source, both.assessment.action) == ("golden", "golden", StopAction.STOP)


def test_continued_stage_is_compared_with_the_accepted_checkpoint():
    measured = results("f1", labels(2), labels(9), labels(7), labels(7), labels(7))
    assert assess(request("f1"), measured, 30).assessment.action is StopAction.CONTINUE


def test_checkpoint_with_the_best_metric_is_kept():
    measured = results("f1", labels(2), labels(9), labels(7), labels(8), golden="pppp")
    assert 10 in referenced_checkpoints(request("f1"), measured, STAGE, 0)
    assert 10 not in referenced_checkpoints(request("f1"), measured, STAGE, 20)


def of_right_rows(metric: str, right: int) -> tuple[str, str | None]:
    """Return the outcomes and entries with which the value of ``metric`` is ``right`` tenths."""
    if metric == "f1":
        return labels(right)
    return overlaps(*[right] * 10) if metric == "rouge_l" else letters("p" * right + "f" * (10 - right))


def regresses(right: list[int], limit: int) -> bool:
    """Whether the last of several numbers of right rows of ten regresses. Simpler than the stop rule."""
    return len(right) > 1 and 10 * (max(right[:-1]) - right[-1]) >= limit


@given(
    st.sampled_from(["f1", "rouge_l", "exact_match"]),
    st.lists(st.integers(0, 10), min_size=2, max_size=8),
    st.integers(1, 60),
    st.booleans(),
)
def test_trainer_and_operator_decide_like_the_definition(metric, right, limit, confirm):
    """The trainer decides after each checkpoint, and the operator from the results as they are reported."""
    asked = request(metric, limit=str(limit), on_regression="Confirm" if confirm else "Immediate")
    for end in range(2, len(right) + 1):
        seen = right[:end]
        measured = results(metric, *(of_right_rows(metric, n) for n in seen))
        found = assess(asked, measured)
        reported = Results.model_validate_json(measured.model_dump_json(by_alias=True, exclude_none=True))
        recorded = Request.model_validate_json(asked.model_dump_json(by_alias=True, exclude_none=True))
        assert assess(recorded, reported) == found
        if not regresses(seen, limit):
            expected = StopAction.CONTINUE
        elif confirm and not regresses(seen[:-1], limit):
            expected = StopAction.CHECK_EARLY
        else:
            expected = StopAction.STOP
        assert found.assessment.action is expected
        if expected is not StopAction.CONTINUE:
            drop = Fraction(max(seen[:-1]) - seen[-1], 10)
            assert f": -{float(100 * drop):.1f} points, limit -{limit}.0" in found.assessment.message
