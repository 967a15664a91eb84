"""Fields that are not supported yet are refused. Delete a row of these tables together with the line of the
field in unsupported.py."""

import pytest

from support.manifests import Changes, changed, evalgate, finetunejob, problem_messages
from tunegate_api.validation.unsupported import EVALGATE, FINETUNEJOB

STAGE = "spec.stages.0"

NOT_YET: dict[str, Changes] = {
    "model.trustRemoteCode": {"spec.model.trustRemoteCode": True},
    "queueName": {"spec.queueName": "team-a"},
    "publish[].uri": {"spec.publish.0.uri": "oci://registry/model"},
    "publish[].secretName": {"spec.publish.0.secretName": "s"},
}

GATE_NOT_YET: dict[str, Changes] = {
    "target": {"spec.target": {"fineTuneJob": "orders"}},
    "schedule": {"spec.target": {"fineTuneJob": "orders"}, "spec.schedule": "0 6 * * *"},
}


@pytest.mark.parametrize("field", [line.field for line in FINETUNEJOB])
def test_unsupported_field_of_a_job_is_refused(field: str) -> None:
    problems = problem_messages(changed(finetunejob(), NOT_YET[field]))
    place = f"spec.{field.replace('[]', '[0]')}"
    assert any(problem.startswith(f"{place}: not supported yet: ") for problem in problems), problems


@pytest.mark.parametrize("field", [line.field for line in EVALGATE])
def test_unsupported_field_of_a_gate_is_refused(field: str) -> None:
    problems = problem_messages(changed(evalgate(), GATE_NOT_YET[field]))
    assert any(problem.startswith(f"spec.{field}: not supported yet: ") for problem in problems), problems
