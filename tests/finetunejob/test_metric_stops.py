"""A task metric that gets worse stops training, although the golden cases stay the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import make_job
from support.world import STAGE, Script, World
from tunegate_api.contract.results import Evaluation, Subject, task_set
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION

ROWS = 20
DEV, TEST = task_set("dev", "f1"), task_set("test", "f1")
REGRESSING = {0: 4, 10: 12, 20: 18, 30: 15, 35: 14, 40: 17, 50: 17}
"""How many of the 20 dev rows have the right label at each step."""


@dataclass
class F1Script(Script):
    """The results of a job whose task metric is F1. The golden cases are the same at every checkpoint."""

    right: Mapping[int, int] = field(default_factory=lambda: REGRESSING)

    def __post_init__(self) -> None:
        self.checkpoints = {step: 94 for step in self.right if step}

    def sets(self) -> dict[str, CaseSet]:
        rows = CaseSet(sha256="b" * 64, ids=[f"row-{i}" for i in range(ROWS)])
        return {k: v for k, v in super().sets().items() if k.startswith("golden")} | {DEV: rows, TEST: rows}

    def evaluation(
        self, subject: Subject, step: int, stage: str = STAGE, time: datetime | None = None
    ) -> Evaluation:
        found = super().evaluation(subject, step, stage, time)
        right, name = (18, TEST) if subject in (Subject.BASE, Subject.FINAL) else (self.right[step], DEV)
        golden = {k: v for k, v in found.outcomes.items() if k.startswith("golden")}
        letters = "p" * right + "f" * (ROWS - right)
        entries = " ".join(["1>1"] * right + ["1>0"] * (ROWS - right))
        return found.model_copy(update={"outcomes": golden | {name: letters}, "counts": {name: entries}})


def world(right: Mapping[int, int] = REGRESSING, **checkpoints: Any) -> World:
    checkpoints = {"failAtDrop": "10%"} | checkpoints
    metrics = [{"name": "f1", "type": "F1", "min": "50%", "checkpoints": checkpoints}]
    made = World(F1Script(right=right))
    made.apply_all(make_job().with_publish().with_spec(taskMetrics=metrics).obj())
    made.run()
    return made


def decide(stopped: World, annotation: str) -> None:
    stop = stopped.status().stop
    assert stop is not None
    text = json.dumps({"stop": stop.id, "reason": "the labels of these rows are wrong"})
    stopped.edit(annotations={annotation: text})
    stopped.settle()


def test_confirmed_drop_of_f1_stops_training_and_status_names_it():
    stopped = world()
    status = stopped.status()
    assert status.phase is Phase.STOPPED
    assert status.stop is not None
    assert (status.stop.gate, status.stop.metric, status.stop.step) == (None, "f1", 35)
    assert status.stop.reason == "TaskMetricRegression"
    assert (
        status.message
        == status.stop.message
        == ("f1 14/20 at step 35, best 18/20 at step 20: -20.0 points, limit -10.0, confirmed")
    )
    assert status.stop.best_step == 20
    assert (status.stop.regressed_count, status.stop.regressed_cases[0]) == (4, "row-14")
    assert status.display.gate == "Failed"


def test_conditions_and_events_name_the_task_metric():
    stopped = world()
    assert stopped.condition("Stalled").reason == "TaskMetricRegression"
    regressing = stopped.condition("Regressing")
    assert (regressing.status, regressing.reason) == ("True", "TaskMetricRegressing")
    warnings = [(reason, message) for _, type, reason, message in stopped.cluster.events if type == "Warning"]
    assert [reason for reason, _ in warnings] == ["TaskMetricRegressing", "TaskMetricRegression"]
    assert warnings[0][1] == "f1 15/20 at step 30, best 18/20 at step 20: -15.0 points, limit -10.0"
    assert "Regressed: row-14, row-15, row-16, row-17. Training stopped, step 20 kept" in warnings[1][1]


def test_continued_job_is_compared_with_the_accepted_checkpoint():
    stopped = world()
    decide(stopped, CONTINUE_ANNOTATION)
    status = stopped.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.stop is None
    assert status.best_checkpoint is not None
    assert status.best_checkpoint.step == 20, "the golden rates are equal, and F1 is highest"


def test_discarded_job_fails():
    stopped = world()
    decide(stopped, DISCARD_ANNOTATION)
    failure = stopped.status().failure
    assert failure is not None
    assert failure.reason == Reason.DISCARDED


@pytest.mark.parametrize("limit", [None, "25%"])
def test_drop_below_the_limit_does_not_stop_training(limit):
    status = world(failAtDrop=limit).status() if limit else without_a_limit()
    assert status.phase is Phase.SUCCEEDED


def without_a_limit() -> Any:
    made = World(F1Script())
    made.apply_all(make_job().with_spec(taskMetrics=[{"name": "f1", "type": "F1", "min": "50%"}]).obj())
    return made.run()


@pytest.mark.slow
@given(st.lists(st.integers(10, 20), min_size=4, max_size=4), st.booleans())
@settings(max_examples=15, deadline=None)
def test_operator_accepts_every_decision_of_the_trainer(right, confirm):
    """The pod decides with the recorded request, and the operator from the reported entries."""
    steps = {0: 10, 10: right[0], 20: right[1], 30: right[2], 50: right[3]}
    made = world(steps, onRegression="Confirm" if confirm else "Immediate")
    values = list(steps.values())
    drops = [value + 2 <= max(values[:i]) for i, value in enumerate(values) if i]
    stops = [i for i, drop in enumerate(drops) if drop and (not confirm or (i and drops[i - 1]))]
    status = made.status()
    if stops:
        assert status.stop is not None, status.message
        assert (status.phase, status.stop.step) == (Phase.STOPPED, list(steps)[stops[0] + 1])
    else:
        assert status.phase is Phase.SUCCEEDED, status.message
