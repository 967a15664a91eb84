"""The stop rule: a regression leads to an early checkpoint and then stops training, even after a restart."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from support.trainer_root import STAGE, TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_api.verdict.stop_rule import StopAction
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.graders import Output
from tunegate_trainer.main import main
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.losses import LossFile
from tunegate_trainer.train.record import next_checkpoint

CASES = 20


class Script:
    """Scripted numbers of passed golden cases at each step, in place of a model's answers."""

    def __init__(self, root: TrainerRoot, passed: Mapping[int, int]) -> None:
        self.root, self.passed = root, passed

    def __call__(
        self, model: Any, tokenizer: Any, prompts: Sequence[str], *settings: Any, **stops: Any
    ) -> list[Output]:
        del model, tokenizer, settings, stops
        checkpoints = [int(p.name.removeprefix("step-")) for p in self.root.stage_folder.glob("step-*")]
        passed = self.passed[max(checkpoints, default=0)]
        return [Output("yes" if i < passed else "no", truncated=False) for i in range(len(prompts))]


@pytest.fixture
def scripted(make_root, monkeypatch):
    """Return a function that makes a root with checkpoints at steps 4, 8 and 12 and scripted golden
    outcomes."""

    def make(passed: Mapping[int, int], gate: dict[str, Any] | None = None) -> TrainerRoot:
        root: TrainerRoot = make_root(
            checkpoint_steps=(4, 8, 12), gates={"orders": gate or gate_spec(golden_cases(CASES))}
        )
        # The outcomes of a real model cannot be chosen.
        monkeypatch.setattr(evaluate, "generate", Script(root, passed))
        return root

    return make


def run(root: TrainerRoot, accepted_step: int | None = None) -> Outcome:
    return train_role.run(root.context(accepted_step=accepted_step))


def test_confirmed_regression_stops_training(scripted, monkeypatch):
    root = scripted({0: 10, 4: 20, 8: 15, 10: 15})
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", STAGE]) == ExitCode.OK
    assert root.report().outcome is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 4, 8, 10], "halfway from 8 to 12"
    assert len(root.losses()) == 10, "the GPU is freed"
    assert root.checkpoint(10).is_dir(), "the state is kept"


def test_unconfirmed_regression_does_not_stop_training(scripted):
    root = scripted({0: 10, 4: 20, 8: 15, 10: 20, 12: 20})
    assert run(root) is Outcome.COMPLETED
    assert root.evaluated_steps() == [0, 4, 8, 10, 12]


def test_immediate_gate_stops_at_first_regression(scripted):
    gate = gate_spec(golden_cases(CASES), golden={"checkpoints": {"onRegression": "Immediate"}})
    root = scripted({0: 10, 4: 20, 8: 15}, gate)
    assert run(root) is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 4, 8]


def test_failed_must_pass_case_stops_at_once(scripted):
    gate = gate_spec(
        golden_cases(CASES),
        critical=["case-19"],
    )
    root = scripted({0: 20, 4: 19}, gate)
    assert run(root) is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 4]


def test_task_metric_stops_a_run_its_gate_does_not(scripted):
    lenient = gate_spec(golden_cases(CASES), golden={"checkpoints": {"failAtDrop": "100%"}})
    root = scripted({0: 2, 4: 6, 8: 4, 10: 4}, lenient)
    metric = {"name": "exact_match", "type": "ExactMatch", "min": "0%", "checkpoints": {"failAtDrop": "10%"}}
    root.spec = {"taskMetrics": [metric]}
    root.write_request()
    assert run(root) is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 4, 8, 10], "halfway from 8 to 12"


def test_dry_run_gate_does_not_stop_training(scripted):
    root = scripted({0: 20, 4: 10, 8: 5, 12: 0}, gate_spec(golden_cases(CASES), enforcement="DryRun"))
    assert run(root) is Outcome.COMPLETED
    assert root.evaluated_steps() == [0, 4, 8, 12]


def test_run_interrupted_at_a_drop_stops_like_an_uninterrupted_run(scripted, monkeypatch):
    root = scripted({0: 10, 4: 20, 8: 15, 10: 15})
    interruption = Interruption()
    append = LossFile.append

    def interrupt_in_step_8(self: LossFile, line: dict[str, Any]) -> None:
        append(self, line)
        if line["step"] == 8:
            interruption.request()

    monkeypatch.setattr(LossFile, "append", interrupt_in_step_8)
    with pytest.raises(Interrupted):
        train_role.run(root.context(interruption=interruption))
    monkeypatch.setattr(LossFile, "append", append)
    assert run(root) is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 4, 8, 10]


def test_restarted_stopped_run_stays_stopped(scripted):
    root = scripted({0: 10, 4: 20, 8: 15, 10: 15})
    run(root)
    losses = root.losses()
    assert run(root) is Outcome.STOPPED
    assert root.losses() == losses


def test_continued_run_is_compared_with_accepted_checkpoint(scripted):
    root = scripted({0: 10, 4: 20, 8: 15, 10: 15, 12: 15})
    run(root)
    assert run(root, accepted_step=10) is Outcome.COMPLETED
    assert root.evaluated_steps() == [0, 4, 8, 10, 12]
    lines = (root.stage_folder / "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))


@pytest.mark.parametrize(
    ("last", "action", "expected"),
    [
        (0, StopAction.CONTINUE, 10),
        (10, StopAction.CONTINUE, 20),
        (10, StopAction.CHECK_EARLY, 15),
        (15, StopAction.CHECK_EARLY, 18),
        (19, StopAction.CHECK_EARLY, 20),
        (20, StopAction.CHECK_EARLY, None),
        (13, StopAction.CONTINUE, 20),
    ],
)
def test_next_checkpoint_after_a_regression_is_halfway(last, action, expected):
    assert next_checkpoint([10, 20], last, action) == expected
