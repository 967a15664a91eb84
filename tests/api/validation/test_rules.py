"""What fields must agree on, as `tunegate validate` says it: the table of wrong manifests."""

import pytest

from support.manifests import Changes, changed, evalgate, finetunejob, table, told
from support.wrong_manifests import ENDPOINT, EVALGATE, FINETUNEJOB, REVIEW, STAGE, Wrong, wrong_manifest
from tunegate_api.validation.problems import find_problems

STAGE_TOLD = "spec.stages[0]"


@pytest.mark.parametrize("case", FINETUNEJOB, ids=lambda case: case.name)
def test_a_wrong_job_is_told_where_and_what_to_do(case: Wrong) -> None:
    assert_told("FineTuneJob", case)


@pytest.mark.parametrize("case", EVALGATE, ids=lambda case: case.name)
def test_a_wrong_gate_is_told_where_and_what_to_do(case: Wrong) -> None:
    assert_told("EvalGate", case)


def assert_told(kind: str, case: Wrong) -> None:
    problems = find_problems(wrong_manifest(kind, case))
    words = case.told or case.remedy
    assert [p for p in problems if p.where == case.field + case.below and words in p.message], problems


def test_a_judge_with_its_calibration_is_only_not_supported_yet() -> None:
    (problem,) = told(changed(finetunejob(), {"spec.data.quality": REVIEW}))
    assert problem.startswith("spec.data.quality: not supported yet")


@pytest.mark.parametrize("type", ["judge", "guardrail"])
def test_a_safety_scorer_with_its_endpoint_is_only_not_supported_yet(type: str) -> None:
    safety = {"source": {"builtin": "refusals-v1"}, "scorer": {"type": type, "endpoint": ENDPOINT}}
    (problem,) = told(changed(evalgate(), {"spec.safety": safety}))
    assert problem.startswith("spec.safety: not supported yet")


@table(
    [
        (
            "a method that cannot be read may be DPO",
            {f"{STAGE}.method": "PPO", f"{STAGE}.training.beta": "0.1"},
            f"{STAGE_TOLD}.method",
        ),
        (
            "a metric that cannot be read may have a schema",
            {"spec.taskMetrics.1": {"name": "bleu", "min": "0.5", "schema": {"inline": {}}}},
            "spec.taskMetrics[1].name",
        ),
        (
            "stages that cannot be read may be DPO",
            {"spec.stages": {}, "spec.data.preference": {"configMap": "ranked"}},
            "spec.stages",
        ),
        (
            "a number that cannot be read is no second fault",
            {f"{STAGE}.training.learningRate": "fast"},
            f"{STAGE_TOLD}.training.learningRate",
        ),
        (
            "an address that cannot be read may have revisions",
            {"spec.model": {"uri": "package:/llm", "revision": "main"}},
            "spec.model.uri",
        ),
        (
            "a name that cannot be read may be the one that another list names",
            {"spec.podTemplate.volumes.0.name": 5},
            "spec.podTemplate.volumes[0].name",
        ),
    ]
)
def test_what_cannot_be_read_is_complained_about_once(changes: Changes, said: str) -> None:
    (problem,) = [p for p in told(changed(finetunejob(), changes)) if "not supported yet" not in p]
    assert problem.startswith(f"{said}: ")


def test_a_rate_that_cannot_be_read_may_be_one_that_can_fail() -> None:
    changes = {"spec.baselines": [], "spec.thresholds": {"minPassRate": "high"}}
    (problem,) = told(changed(evalgate(), changes))
    assert problem.startswith("spec.thresholds.minPassRate: ")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("enable-thinking", False, "is not an argument name: use letters, digits and _, and no digit first"),
        ("messages", "x", "is set for each chat, or is a keyword of the template language: leave it out"),
        ("not", 1, "is set for each chat, or is a keyword of the template language: leave it out"),
        ("documents", ["x"], "must be text, a number, true or false"),
        ("effort", None, "must be text, a number, true or false"),
        ("effort", "x" * 257, "has 257 characters: must have at most 256"),
    ],
)
def test_argument_that_no_chat_template_can_be_given_is_refused(name: str, value: object, said: str) -> None:
    problems = told(changed(finetunejob(), {"spec.model.chatTemplateArgs": {name: value}}))
    assert [p for p in problems if "not supported yet" not in p] == [
        f"spec.model.chatTemplateArgs.{name}: {said}"
    ]


@pytest.mark.parametrize("given", [["enable_thinking"], "x", {1: False}])
def test_arguments_of_another_shape_are_refused_by_their_field(given: object) -> None:
    problems = told(changed(finetunejob(), {"spec.model.chatTemplateArgs": given}))
    assert any(problem.startswith("spec.model.chatTemplateArgs") for problem in problems)
