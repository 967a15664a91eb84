"""The rules between fields, as `tunegate validate` reports them, for the table of invalid manifests."""

from typing import Any

import pytest

from support.graders import safety_judge
from support.manifests import Changes, changed, evalgate, finetunejob, problem_messages, table
from support.wrong_manifests import (
    ENDPOINT,
    EVALGATE,
    FINETUNEJOB,
    GUARDRAIL,
    STAGE,
    Wrong,
    wrong_manifest,
)
from tunegate_api.validation.problems import find_problems

STAGE_PATH = "spec.stages[0]"


@pytest.mark.parametrize("case", FINETUNEJOB, ids=lambda case: case.name)
def test_invalid_job_is_reported_with_field_and_remedy(case: Wrong) -> None:
    assert_reported("FineTuneJob", case)


@pytest.mark.parametrize("case", EVALGATE, ids=lambda case: case.name)
def test_invalid_gate_is_reported_with_field_and_remedy(case: Wrong) -> None:
    assert_reported("EvalGate", case)


def assert_reported(kind: str, case: Wrong) -> None:
    problems = find_problems(wrong_manifest(kind, case))
    expected = case.own_message or case.remedy
    assert [p for p in problems if p.where == case.field + case.below and expected in p.message], problems


@pytest.mark.parametrize(
    "quality", [{"grader": {"gate": "orders-golden", "name": "judge"}}, {"sample": "10%"}, {}]
)
def test_data_review_by_judge_or_people_has_no_problem(quality: dict[str, Any]) -> None:
    assert problem_messages(changed(finetunejob(), {"spec.data.quality": quality})) == []


@pytest.mark.parametrize(
    "safety",
    [
        {"source": {"builtin": "refusals-v1"}},
        {"source": {"configMap": "rules", "key": "v1.jsonl"}, "sha256": "a" * 64},
        {"source": {"builtin": "refusals-v1"}, "grader": "compliance"},
        {"source": {"builtin": "refusals-v1"}, "grader": "guard"},
    ],
)
def test_safety_set_with_a_grader_has_no_problem(safety: dict[str, Any]) -> None:
    graders = [GUARDRAIL, safety_judge(ENDPOINT)]
    changes = {"spec.sets.1": {"name": "safety", "kind": "Safety", **safety}, "spec.graders": graders}
    assert problem_messages(changed(evalgate(), changes)) == []


@table(
    [
        (
            "an invalid method may be DPO",
            {f"{STAGE}.method": "PPO", f"{STAGE}.training.beta": "0.1"},
            f"{STAGE_PATH}.method",
        ),
        (
            "an invalid metric may have a schema",
            {"spec.taskMetrics.1": {"name": "a", "type": "Bleu", "min": "50%", "schema": {"inline": {}}}},
            "spec.taskMetrics[1].type",
        ),
        (
            "invalid stages may be DPO",
            {
                "spec.stages": {},
                "spec.data.sources.1": {"name": "ranked", "use": "Preference", "configMap": "ranked"},
            },
            "spec.stages",
        ),
        (
            "an invalid number is reported once",
            {f"{STAGE}.training.learningRate": "fast"},
            f"{STAGE_PATH}.training.learningRate",
        ),
        (
            "an invalid address may have a revision",
            {"spec.model": {"uri": "package:/llm", "revision": "main"}},
            "spec.model.uri",
        ),
        (
            "an invalid volume name may be the mounted one",
            {"spec.podTemplate.volumes.0.name": 5},
            "spec.podTemplate.volumes[0].name",
        ),
    ]
)
def test_invalid_field_is_reported_only_once(changes: Changes, message: str) -> None:
    (problem,) = problem_messages(changed(finetunejob(), changes))
    assert problem.startswith(f"{message}: ")


def test_invalid_pass_rate_is_reported_only_once() -> None:
    changes = {"spec.compareWith": [], "spec.sets.0.rules": [{"name": "all", "minPassRate": "high"}]}
    (problem,) = problem_messages(changed(evalgate(), changes))
    assert problem.startswith("spec.sets[0].rules[0].minPassRate: ")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("enable-thinking", False, "is not an argument name: use letters, digits and _, and no digit first"),
        ("messages", "x", "is set for each chat, or is a keyword of the template language: leave it out"),
        ("not", 1, "is set for each chat, or is a keyword of the template language: leave it out"),
        ("documents", ["x"], "must be text, a number, true or false"),
        ("effort", None, "must be text, a number, true or false"),
        ("effort", "x" * 257, "has 257 characters: must have at most 256"),
    ],
)
def test_invalid_chat_template_argument_is_refused(name: str, value: object, message: str) -> None:
    problems = problem_messages(changed(finetunejob(), {"spec.model.chatTemplateArgs": {name: value}}))
    assert problems == [f"spec.model.chatTemplateArgs.{name}: {message}"]


@pytest.mark.parametrize("given", [["enable_thinking"], "x", {1: False}])
def test_chat_template_arguments_of_another_type_are_refused(given: object) -> None:
    problems = problem_messages(changed(finetunejob(), {"spec.model.chatTemplateArgs": given}))
    assert any(problem.startswith("spec.model.chatTemplateArgs") for problem in problems)
