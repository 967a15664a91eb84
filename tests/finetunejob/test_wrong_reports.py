"""Numbers that status cannot show do not keep the operator from deciding about the job."""

import json

import pytest

from support.builders import make_job
from support.world import World
from tunegate_api.v1alpha1.finetunejob_status import Phase
from tunegate_operator.reporting.body import UnreadableError, parse_report


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("evaluation", {"seconds": float("inf")}),
        ("evaluation", {"seconds": float("nan")}),
        ("evaluation", {"loss": float("nan")}),
        ("evaluation", {"loss": 1e200}),
        ("evaluation", {"step": 10**30}),
        ("usage", {"trainingSeconds": float("inf")}),
        ("usage", {"trainingSeconds": float("nan")}),
        ("usage", {"trainingSeconds": -1.0}),
        ("usage", {"tokens": 10**400}),
        ("usage", {"peakProcessBytes": 10**400}),
    ],
)
def test_report_with_a_number_that_status_cannot_show_is_refused(part, values):
    world = World()
    world.apply_all()
    world.until_checkpoint()
    report = json.loads(world.outbox["train-sft.json"].model_dump_json(by_alias=True))
    changed = report["usage"] if part == "usage" else report["results"]["evaluations"][-1]
    changed.update(values)
    with pytest.raises(UnreadableError):
        parse_report(json.dumps(report).encode())


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("stages", {"totalSteps": 10**400}),
        ("stages", {"totalSteps": -5}),
        ("stages", {"tokens": 10**30}),
        ("data", {"dropped": 10**30}),
        ("model", {"parameters": 10**30}),
    ],
)
def test_plan_with_a_number_that_status_cannot_show_is_refused(part, values):
    world = World()
    world.apply_all()
    world.until_checkpoint()
    report = json.loads(world.outbox["data.json"].model_dump_json(by_alias=True))
    parse_report(json.dumps(report).encode())
    changed = report["plan"][part]
    (changed[0] if part == "stages" else changed).update(values)
    with pytest.raises(UnreadableError):
        parse_report(json.dumps(report).encode())


@pytest.mark.parametrize("values", [{"loss": 1e-300}, {"seconds": 1e-300}, {"trainingSeconds": 1e-300}])
def test_report_with_a_tiny_number_does_not_delay_the_deadline(values):
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=500).obj())
    world.until_checkpoint()
    report = json.loads(world.outbox["train-sft.json"].model_dump_json(by_alias=True))
    report["sequence"] += 1
    (report["usage"] if "trainingSeconds" in values else report["results"]["evaluations"][-1]).update(values)
    world.reconciler.handle_report(report)
    world.settle()
    world.advance(1000)
    assert world.status().phase is Phase.FAILED
