"""Numbers that status cannot show do not keep the operator from deciding about the job."""

import json
from functools import reduce
from operator import getitem

import pytest

from support.builders import make_job
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.reporting.body import UnreadableError, parse_report

EVALUATION = ("results", "evaluations", -1)
STAGE = ("plan", "stages", 0)


@pytest.mark.parametrize(
    ("step", "part", "values"),
    [
        ("train-sft", EVALUATION, {"seconds": float("inf")}),
        ("train-sft", EVALUATION, {"seconds": float("nan")}),
        ("train-sft", EVALUATION, {"loss": float("nan")}),
        ("train-sft", EVALUATION, {"loss": 1e200}),
        ("train-sft", EVALUATION, {"step": 10**30}),
        ("train-sft", ("usage",), {"trainingSeconds": float("inf")}),
        ("train-sft", ("usage",), {"trainingSeconds": float("nan")}),
        ("train-sft", ("usage",), {"trainingSeconds": -1.0}),
        ("train-sft", ("usage",), {"tokens": 10**400}),
        ("train-sft", ("usage",), {"peakProcessBytes": 10**400}),
        ("data", STAGE, {"totalSteps": 10**400}),
        ("data", STAGE, {"totalSteps": -5}),
        ("data", STAGE, {"tokens": 10**30}),
        ("data", ("plan", "data"), {"dropped": 10**30}),
        ("data", ("plan", "model"), {"parameters": 10**30}),
    ],
)
def test_report_with_a_number_that_status_cannot_show_is_refused(step, part, values):
    world = World()
    world.apply_all()
    world.until_checkpoint()
    report = json.loads(world.outbox[f"{step}.json"].model_dump_json(by_alias=True))
    parse_report(json.dumps(report).encode())
    reduce(getitem, part, report).update(values)
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
