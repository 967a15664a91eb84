"""Which cases, baselines and gates a judgement uses."""

from fractions import Fraction
from typing import Any

import pytest

from support.builders import make_gate, make_job
from tunegate_api.contract.digests import canonical_json
from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.judging.judgement import best_checkpoint, judge_checkpoint, judge_final
from tunegate_api.judging.stages import assess_stage, referenced_checkpoints
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.intervals import wilson
from tunegate_api.verdict.outcomes import CaseSet, VerdictState
from tunegate_api.verdict.stop_rule import StopAction

SHA = "a" * 64
CASES = CaseSet(sha256=SHA, ids=[f"case-{i}" for i in range(20)])
CRITICAL = {"name": "critical", "cases": ["case-19"], "minPassRate": "100%"}
ROWS = CaseSet(sha256="b" * 64, ids=[f"row-{i}" for i in range(4)])
GOLDEN = "golden/golden"
DEV, TEST = "dev/exact_match", "test/exact_match"


def gate_request(
    name: str = "golden",
    last_published: PublishedVersion | None = None,
    *,
    dry_run: bool = False,
    baselines: list[str] | None = None,
    **golden: Any,
) -> GateRequest:
    spec = (
        make_gate(name).with_golden(**{"rules": [], **golden}).spec
        | {"compareWith": [{"type": each} for each in baselines or ["BaseModel"]]}
        | ({"enforcement": "DryRun"} if dry_run else {})
    )
    return GateRequest(
        name=name,
        spec=EvalGateSpec.model_validate(spec),
        golden_sha256=SHA,
        last_published=last_published,
    )


def request(*gates: GateRequest, stage_gates: tuple[str, ...] = ()) -> Request:
    gates = gates or (gate_request(),)
    spec = make_job().with_gates(*[g.name for g in gates if g.name not in stage_gates]).spec
    if stage_gates:
        spec["stages"][0]["gates"] = [{"name": name} for name in stage_gates]
    return Request(
        name="orders", namespace="default", uid="u", spec=FineTuneJobSpec.model_validate(spec), gates=[*gates]
    )


def evaluation(subject: Subject, step: int, passed: int, **outcomes: str) -> Evaluation:
    golden = "p" * passed + "f" * (20 - passed)
    measured = {GOLDEN: golden, DEV: "pppp", TEST: "pppp"} | outcomes
    return Evaluation(subject=subject, stage="sft", step=step, outcomes=measured)


def results(*evaluations: Evaluation, cases: CaseSet = CASES, **sets: CaseSet) -> Results:
    return Results(sets={GOLDEN: cases, DEV: ROWS, TEST: ROWS} | sets, evaluations=[*evaluations])


BASE = evaluation(Subject.BASE, 0, 10)
FINAL = evaluation(Subject.FINAL, 40, 19)


def test_final_judgement_is_none_before_the_artifact_is_measured():
    assert judge_final(request(), results(BASE)) is None


def test_artifact_is_compared_with_the_base_model():
    judged = judge_final(request(), results(BASE, FINAL))
    assert judged is not None
    assert judged.state is VerdictState.PASSED
    (gate,) = judged.gates
    assert gate.baselines == {"BaseModel": 10}
    assert gate.failed_cases == ["case-19"]


def test_advisory_cases_are_in_no_number_of_a_judgement():
    gate = gate_request(advisory=["case-0", "case-19"])
    judged = judge_final(request(gate), results(BASE, FINAL))
    assert judged is not None
    (found,) = judged.gates
    assert (found.verdict.passed, found.verdict.total, found.baselines) == (18, 18, {"BaseModel": 9})
    assert found.failed_cases == []
    assert found.outcomes == FINAL.outcomes[GOLDEN]


def test_starting_model_is_baseline_without_a_base_model_result():
    start = evaluation(Subject.START, 0, 20)
    judged = judge_final(request(), results(start, evaluation(Subject.FINAL, 40, 10)))
    assert judged is not None
    assert judged.gates[0].baselines == {"BaseModel": 20}
    assert judged.state is VerdictState.FAILED


def test_checkpoint_is_compared_with_the_first_stages_starting_model():
    """The final gate evaluates the base model on its golden sets and the test split. The first stage
    evaluates it on the golden sets of all gates and the dev split."""
    asked = request(gate_request(), gate_request("form"), stage_gates=("form",))
    base = Evaluation(subject=Subject.BASE, stage="dpo", step=0, outcomes={GOLDEN: "p" * 20, TEST: "pppp"})
    start = evaluation(Subject.START, 0, 20, **{"golden/form": "p" * 4 + "f" * 16, DEV: "pppf"})
    later = Evaluation(
        subject=Subject.START, stage="dpo", step=0, outcomes={"golden/form": "p" * 20, DEV: "pppp"}
    )
    checkpoint = evaluation(Subject.CHECKPOINT, 4, 20, **{"golden/form": "p" * 20})
    measured = results(later, base, start, checkpoint, **{"golden/form": CASES})
    judged = judge_checkpoint(asked, measured, checkpoint)
    assert [gate.baselines for gate in judged.gates] == [{"BaseModel": 4}]
    assert [task.base_passed for task in judged.tasks] == [3]


def test_gate_results_of_base_model_keep_checkpoint_verdicts():
    """The final gate and training may load the base model in different data types."""
    start, checkpoint = evaluation(Subject.START, 0, 17), evaluation(Subject.CHECKPOINT, 40, 18)
    before = results(start, checkpoint)
    after = results(start, checkpoint, evaluation(Subject.BASE, 0, 20), FINAL)
    for measured in (before, after):
        judged = judge_checkpoint(request(), measured, checkpoint)
        assert judged.gate_state is VerdictState.PASSED
        assert judged.gates[0].baselines == {"BaseModel": 17}
    final = judge_final(request(), after)
    assert final is not None
    assert final.gates[0].baselines == {"BaseModel": 20}


def test_unmeasured_base_model_is_an_error():
    judged = judge_final(request(), results(FINAL))
    assert judged is not None
    assert judged.gate_state is VerdictState.ERROR
    assert judged.gates[0].baselines == {}


@pytest.mark.parametrize("cases", [CASES.model_copy(update={"sha256": "b" * 64}), None])
def test_outcomes_of_another_golden_set_are_an_error(cases):
    measured = results(BASE, FINAL, cases=cases) if cases else Results(evaluations=[BASE, FINAL])
    judged = judge_final(request(), measured)
    assert judged is not None
    assert judged.state is VerdictState.ERROR
    assert judged.gates[0].cases == CaseSet(sha256=SHA, ids=[])


def test_last_published_baseline_is_skipped_if_nothing_was_published():
    baselines = ["LastPublished"]
    first = judge_final(request(gate_request(baselines=baselines)), results(BASE, FINAL))
    assert first is not None
    assert first.gates[0].skipped == ("LastPublished",)
    assert first.state is VerdictState.PASSED
    last = PublishedVersion(job="v1", by_case=True, golden_sha256=SHA, outcomes="p" * 20)
    second = judge_final(
        request(gate_request(baselines=baselines, last_published=last)), results(BASE, FINAL)
    )
    assert second is not None
    assert second.gates[0].skipped == ()
    assert second.gates[0].baselines == {"LastPublished": 20}
    assert second.state is VerdictState.FAILED
    assert second.message.startswith("golden: golden 19/20, LastPublished 20/20: -5.0 points")


def test_baseline_last_published_with_another_golden_set_gives_error():
    last = PublishedVersion(job="v1", by_case=True, golden_sha256="b" * 64, outcomes="p" * 20)
    gate = gate_request(baselines=["LastPublished"], last_published=last)
    judged = judge_final(request(gate), results(BASE, FINAL))
    assert judged is not None
    assert judged.state is VerdictState.ERROR


def test_only_the_artifact_is_compared_with_a_publish_target_version():
    known = PublishedVersion(job="v1", by_case=True, golden_sha256=SHA, outcomes="p" * 10 + "f" * 10)
    held = PublishedVersion(
        job="v2", by_case=True, golden_sha256=SHA, outcomes="p" * 20, version="pvc://models/orders/v2-1a2b3"
    )
    asked = request(gate_request(baselines=["LastPublished"], last_published=known))
    checkpoint = evaluation(Subject.CHECKPOINT, 40, 19)
    measured = results(BASE, checkpoint, FINAL).model_copy(
        update={"last_published": LastPublished(reading=1, versions={"golden": held})}
    )
    judged = judge_final(asked, measured)
    assert judged is not None
    assert judged.message == (
        "golden: golden 19/20, LastPublished (v2-1a2b3) 20/20: -5.0 points, limit -5.0; "
        "new failures 1, at most 3: case-19"
    )
    assert judge_checkpoint(asked, measured, checkpoint).state is VerdictState.PASSED


def with_compared(type_: str, **entry: Any) -> GateRequest:
    gate = gate_request()
    compared = [{"type": "BaseModel"}, {"type": type_, **entry}]
    spec = EvalGateSpec.model_validate(gate.spec.to_wire() | {"compareWith": compared})
    return gate.model_copy(update={"spec": spec})


def with_version() -> GateRequest:
    return with_compared("Version", version={"uri": "pvc://models/orders/v1-1a2b3", "digest": "c" * 64})


def test_artifact_is_compared_with_the_pinned_version():
    version = Evaluation(subject=Subject.VERSION, stage="sft", step=0, outcomes={GOLDEN: "p" * 20})
    judged = judge_final(request(with_version()), results(BASE, version, FINAL))
    assert judged is not None
    assert judged.state is VerdictState.FAILED
    assert judged.message == (
        "golden: golden 19/20, Version (v1-1a2b3) 20/20: -5.0 points, limit -5.0; "
        "new failures 1, at most 3: case-19"
    )
    assert judged.gates[0].baselines == {"BaseModel": 10, "Version": 20}


def test_pinned_version_that_was_not_measured_is_an_error():
    judged = judge_final(request(with_version()), results(BASE, FINAL))
    assert judged is not None
    assert judged.state is VerdictState.ERROR
    assert judged.message == "golden: Version (v1-1a2b3) was not measured"


def test_checkpoint_is_not_compared_with_the_pinned_version():
    checkpoint = evaluation(Subject.CHECKPOINT, 40, 19)
    judged = judge_checkpoint(request(with_version()), results(BASE, checkpoint), checkpoint)
    assert judged.state is VerdictState.PASSED
    assert judged.gates[0].skipped == ("Version",)


def with_endpoint() -> GateRequest:
    return with_compared("Endpoint", endpoint={"url": "https://serving.internal/v1", "model": "extractor"})


def test_artifact_is_compared_with_the_endpoint():
    endpoint = Evaluation(subject=Subject.ENDPOINT, stage="sft", step=0, outcomes={GOLDEN: "p" * 20})
    judged = judge_final(request(with_endpoint()), results(BASE, endpoint, FINAL))
    assert judged is not None
    assert judged.state is VerdictState.FAILED
    assert judged.message == (
        "golden: golden 19/20, Endpoint (extractor) 20/20: -5.0 points, limit -5.0; "
        "new failures 1, at most 3: case-19"
    )
    assert judged.gates[0].baselines == {"BaseModel": 10, "Endpoint": 20}


def test_unreachable_endpoint_is_an_error_with_the_reason():
    problems = {GOLDEN: "the server did not answer"}
    endpoint = Evaluation(subject=Subject.ENDPOINT, stage="sft", step=0, outcomes={}, problems=problems)
    judged = judge_final(request(with_endpoint()), results(BASE, endpoint, FINAL))
    assert judged is not None
    assert judged.state is VerdictState.ERROR
    assert judged.message == "golden: Cannot compare with Endpoint (extractor): the server did not answer"


def test_endpoint_that_was_not_asked_is_an_error():
    judged = judge_final(request(with_endpoint()), results(BASE, FINAL))
    assert judged is not None
    assert judged.state is VerdictState.ERROR
    assert judged.message == "golden: Endpoint (extractor) was not measured"


def test_case_without_an_answer_of_the_endpoint_is_an_error():
    endpoint = Evaluation(subject=Subject.ENDPOINT, stage="sft", step=0, outcomes={GOLDEN: "p" * 18 + "ef"})
    judged = judge_final(request(with_endpoint()), results(BASE, endpoint, FINAL))
    assert judged is not None
    assert judged.state is VerdictState.ERROR
    assert judged.message.endswith("Endpoint (extractor) 18/20: +5.0 points, limit -5.0, 1 not measured")


def test_checkpoint_is_not_compared_with_the_endpoint():
    checkpoint = evaluation(Subject.CHECKPOINT, 40, 19)
    judged = judge_checkpoint(request(with_endpoint()), results(BASE, checkpoint), checkpoint)
    assert judged.state is VerdictState.PASSED
    assert judged.gates[0].skipped == ("Endpoint",)


@pytest.mark.parametrize("readings", [(1, 2), (2, 1), (2, None), (None, 2)])
def test_merging_results_keeps_the_published_version_that_was_read_last(readings):
    read = [number and LastPublished(reading=number) for number in readings]
    first, second = (Results(last_published=one) for one in read)
    assert first.merged(second).last_published == LastPublished(reading=2)


def test_checkpoint_is_judged_on_dev_rows_artifact_on_test_rows():
    final = evaluation(Subject.FINAL, 40, 19, **{DEV: "ffff", TEST: "pppf"})
    judged = judge_final(request(), results(BASE, final))
    assert judged is not None
    (task,) = judged.tasks
    assert (task.split, task.passed, task.total, task.base_passed) == ("test", 3, 4, 4)
    assert judged.task_message == task.finding.message
    checkpoint = evaluation(Subject.CHECKPOINT, 20, 19, **{DEV: "ppff", TEST: "ffff"})
    judged = judge_checkpoint(request(), results(BASE, checkpoint), checkpoint)
    assert [(t.split, t.passed) for t in judged.tasks] == [("dev", 2)]


def test_task_metric_below_its_minimum_fails_the_artifact():
    judged = judge_final(request(), results(BASE, evaluation(Subject.FINAL, 40, 19, **{TEST: "ffff"})))
    assert judged is not None
    assert (judged.gate_state, judged.task_state) == (VerdictState.PASSED, VerdictState.FAILED)
    assert judged.state is VerdictState.FAILED
    assert judged.message.startswith("taskMetrics: exact_match 0/4")


@pytest.mark.parametrize("outcomes", ["ppp", "p", "", "ppppp", "pppe"])
def test_task_metric_with_missing_or_extra_outcomes_is_an_error(outcomes):
    measured = evaluation(Subject.FINAL, 40, 19, **{TEST: outcomes})
    judged = judge_final(request(), results(BASE, measured))
    assert judged is not None
    assert judged.task_state is VerdictState.ERROR


def test_task_metric_without_row_ids_is_an_error():
    unnamed = Results(sets={GOLDEN: CASES}, evaluations=[BASE, FINAL])
    judged = judge_final(request(), unnamed)
    assert judged is not None
    assert judged.task_state is VerdictState.ERROR


def test_dry_run_gate_does_not_affect_the_verdict():
    dry = gate_request("dry", dry_run=True, rules=[{"name": "all", "minPassRate": "100%"}])
    measured = results(
        evaluation(Subject.BASE, 0, 10, **{"golden/dry": "p" * 20}),
        evaluation(Subject.FINAL, 40, 19, **{"golden/dry": "f" * 20}),
        **{"golden/dry": CASES},
    )
    judged = judge_final(request(gate_request(), dry), measured)
    assert judged is not None
    assert judged.gates[1].verdict.state is VerdictState.FAILED
    assert judged.gates[1].dry_run
    assert judged.state is judged.gate_state is VerdictState.PASSED


def test_stage_is_judged_by_its_own_gates():
    own = gate_request("own")
    checkpoint = evaluation(Subject.CHECKPOINT, 20, 19, **{"golden/own": "p" * 20})
    judged = judge_checkpoint(
        request(gate_request(), own, stage_gates=("own",)), results(BASE, checkpoint), checkpoint
    )
    assert [gate.name for gate in judged.gates] == ["own"]


def test_best_checkpoint_passed_and_has_the_highest_rates():
    measured = results(
        evaluation(Subject.START, 0, 10),
        evaluation(Subject.CHECKPOINT, 10, 18, **{DEV: "ppff"}),
        evaluation(Subject.CHECKPOINT, 20, 18, **{DEV: "pppf"}),
        evaluation(Subject.CHECKPOINT, 30, 18, **{DEV: "pppf"}),
        evaluation(Subject.CHECKPOINT, 40, 4),
    )
    best = best_checkpoint(request(), measured, "sft")
    assert best is not None
    assert best.step == 20
    only_bad = results(evaluation(Subject.START, 0, 10), evaluation(Subject.CHECKPOINT, 40, 4))
    assert best_checkpoint(request(), only_bad, "sft") is None


def history(*passed: int) -> list[Evaluation]:
    """Return evaluations of a starting model and of a checkpoint every ten steps."""
    start, *checkpoints = passed
    return [
        evaluation(Subject.START, 0, start),
        *(evaluation(Subject.CHECKPOINT, 10 * (i + 1), p) for i, p in enumerate(checkpoints)),
    ]


def test_stop_rule_returns_none_before_the_first_checkpoint():
    gates = request().final_gates
    assert assess_stage(request(*gates), results(*history(20)), "sft", 0) is None
    assert assess_stage(request(*gates), Results(), "sft", 0) is None


def test_continue_excludes_earlier_checkpoints_from_the_stop_rule():
    gates, measured = request().final_gates, results(*history(10, 20, 15, 15))
    found = assess_stage(request(*gates), measured, "sft", 0)
    assert found is not None
    assert (found.gate, found.step, found.assessment.action) == ("golden", 30, StopAction.STOP)
    accepted = assess_stage(request(*gates), measured, "sft", 20)
    assert accepted is not None
    assert accepted.assessment.action is StopAction.CONTINUE
    assert assess_stage(request(*gates), measured, "sft", 30) is None
    assert assess_stage(request(*gates), measured, "another", 0) is None


def test_dry_run_gate_does_not_choose_the_best_checkpoint():
    dry = gate_request("dry", dry_run=True)
    measured = results(
        BASE,
        evaluation(Subject.CHECKPOINT, 10, 19, **{"golden/dry": "f" * 20}),
        evaluation(Subject.CHECKPOINT, 20, 18, **{"golden/dry": "p" * 20}),
        **{"golden/dry": CASES},
    )
    best = best_checkpoint(request(gate_request(), dry), measured, "sft")
    assert best is not None
    assert (best.step, best.golden) == (10, Fraction(19, 20))


def test_task_metrics_choose_the_checkpoint_if_no_gate_is_enforced():
    alone = request(gate_request(dry_run=True, rules=[{"name": "all", "minPassRate": "100%"}]))
    measured = results(
        BASE,
        evaluation(Subject.CHECKPOINT, 10, 19, **{DEV: "ppff"}),
        evaluation(Subject.CHECKPOINT, 20, 5, **{DEV: "pppp"}),
        evaluation(Subject.CHECKPOINT, 30, 9, **{DEV: "pppp"}),
    )
    best = best_checkpoint(alone, measured, "sft")
    assert best is not None
    assert best.step == 20
    assert referenced_checkpoints(alone, measured, "sft", 0) == {20}


def test_checkpoint_best_only_by_a_dry_run_may_be_deleted():
    dry = gate_request("dry", dry_run=True)
    measured = results(
        BASE,
        evaluation(Subject.CHECKPOINT, 10, 19, **{"golden/dry": "f" * 20}),
        evaluation(Subject.CHECKPOINT, 20, 18, **{"golden/dry": "p" * 20}),
        **{"golden/dry": CASES},
    )
    assert referenced_checkpoints(request(gate_request(), dry), measured, "sft", 0) == {10}


def test_strictest_enforced_gate_determines_the_stop_action():
    gates = [
        gate_request("lenient", checkpoints={"failAtDrop": "50%"}),
        gate_request("strict"),
        gate_request("dry", dry_run=True, rules=[CRITICAL]),
    ]
    sets = {f"golden/{g.name}": CASES for g in gates}
    measured = Results(
        sets=sets,
        evaluations=[
            Evaluation(subject=subject, stage="sft", step=step, outcomes=dict.fromkeys(sets, outcomes))
            for subject, step, outcomes in (
                (Subject.START, 0, "p" * 20),
                (Subject.CHECKPOINT, 4, "p" * 18 + "ff"),
            )
        ],
    )
    found = assess_stage(request(*gates), measured, "sft", 0)
    assert found is not None
    assert found.gate == "strict"
    assert found.assessment.action is StopAction.CHECK_EARLY
    assert found.assessment.message == (
        "golden 18/20 at step 4, starting model 20/20: -10.0 points, limit -5.0"
    )


def test_gate_without_measured_cases_does_not_stop_training():
    measured = results(*history(20, 0), cases=CASES.model_copy(update={"sha256": "b" * 64}))
    assert assess_stage(request(), measured, "sft", 0) is None


F1 = ("dev/f1", "test/f1")
"""Names of the F1 metric on both splits."""


def counted_request(minimum: str = "75%") -> Request:
    asked = request()
    spec = asked.spec.to_wire() | {"taskMetrics": [{"name": "f1", "type": "F1", "min": minimum}]}
    return asked.model_copy(update={"spec": FineTuneJobSpec.model_validate(spec)})


def counted(subject: Subject, step: int, counts: str | None, letters: str = "pppp") -> Evaluation:
    measured = dict.fromkeys(F1, letters)
    return evaluation(subject, step, 19, **measured).model_copy(
        update={"counts": counts and dict.fromkeys(F1, counts)}
    )


def counted_results(*evaluations: Evaluation) -> Results:
    return results(*evaluations, **dict.fromkeys(F1, ROWS))


def test_micro_f1_is_the_share_of_correctly_labelled_rows():
    base, final = counted(Subject.BASE, 0, "0>1 0>- 1>1 1>0"), counted(Subject.FINAL, 40, "0>0 0>0 1>1 1>0")
    judged = judge_final(counted_request(), counted_results(base, final))
    assert judged is not None
    (task,) = judged.tasks
    assert task.finding.message == "f1 3/4 = 0.75 over 4 rows, required 0.75"
    assert (task.value, task.base_value) == (Fraction(3, 4), Fraction(1, 4))
    assert judged.state is VerdictState.PASSED


def test_macro_f1_is_the_mean_over_labels():
    asked = counted_request()
    metrics = [{"name": "f1", "type": "F1", "average": "Macro", "min": "75%"}]
    spec = FineTuneJobSpec.model_validate(asked.spec.to_wire() | {"taskMetrics": metrics})
    final = counted(Subject.FINAL, 40, "0>0 0>0 0>0 1>0")
    judged = judge_final(asked.model_copy(update={"spec": spec}), counted_results(final))
    assert judged is not None
    (task,) = judged.tasks
    assert task.finding.message == "f1 0.42, the mean of 2 labels, over 4 rows, required 0.75"
    assert judged.state is VerdictState.FAILED


def test_shares_of_rows_have_a_confidence_interval():
    judged = judge_final(counted_request(), counted_results(counted(Subject.FINAL, 40, "0>0 0>0 1>1 1>0")))
    assert judged is not None
    assert judged.tasks[0].interval == wilson(3, 4)
    unmeasured = counted_results(counted(Subject.FINAL, 40, "0>0 0>0 1>1 -", "pppe"))
    judged = judge_final(counted_request(), unmeasured)
    assert judged is not None
    assert judged.tasks[0].interval is None


@pytest.mark.parametrize(
    ("letters", "state", "interval"),
    [
        ("ppft", VerdictState.PASSED, wilson(2, 4)),
        ("fffe", VerdictState.FAILED, None),
        ("fff", VerdictState.FAILED, None),
        ("ppppp", VerdictState.ERROR, None),
    ],
)
def test_pass_rate_has_an_interval_if_every_row_was_measured(letters, state, interval):
    final, base = (
        evaluation(s, n, 19, **{TEST: letters}) for s, n in ((Subject.FINAL, 40), (Subject.BASE, 0))
    )
    judged = judge_final(request(), results(base, final))
    assert judged is not None
    (task,) = judged.tasks
    assert task.finding.state is state
    assert (task.interval, task.base_interval) == (interval, interval)


def test_count_metric_with_missing_counts_or_outcomes_is_an_error():
    base = counted(Subject.BASE, 0, None)
    for final in (counted(Subject.FINAL, 40, None), counted(Subject.FINAL, 40, "0>0 0>0 1>1", "ppp")):
        judged = judge_final(counted_request(), counted_results(base, final))
        assert judged is not None
        assert judged.task_state is VerdictState.ERROR


def test_best_checkpoint_has_the_highest_count_metric():
    measured = [
        counted(Subject.START, 0, "0>1 0>1 1>0 1>0", "ffff"),
        counted(Subject.CHECKPOINT, 10, "0>0 0>1 1>0 1>0", "pfff"),
        counted(Subject.CHECKPOINT, 20, "0>0 0>0 1>1 1>0", "ffff"),
        counted(Subject.CHECKPOINT, 30, "0>0 0>0 1>1 -", "pppe"),
    ]
    best = best_checkpoint(counted_request(), counted_results(*measured), "sft")
    assert best is not None
    assert (best.step, best.dev) == (20, Fraction(3, 4))


def test_results_without_counts_have_no_counts_in_json():
    text = canonical_json(results(BASE))
    assert "counts" not in text
    assert Results.model_validate_json(text) == results(BASE)


def test_results_with_counts_survive_a_json_round_trip():
    measured = counted_results(counted(Subject.FINAL, 40, "0>0 0>1 - 1>-", "pfef"))
    read = Results.model_validate_json(canonical_json(measured))
    assert read == measured
    assert read.merged(read) == read
