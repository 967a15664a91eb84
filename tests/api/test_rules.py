"""What fields must agree on, as `tunegate validate` says it: the table of wrong manifests."""

import pytest

from support.manifests import changed, evalgate, finetunejob, told
from support.wrong_manifests import ENDPOINT, EVALGATE, FINETUNEJOB, REVIEW, Wrong, wrong_manifest
from tunegate_api.v1alpha1.problems import find_problems


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
