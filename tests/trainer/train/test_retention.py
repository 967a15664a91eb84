"""Only checkpoints that are no longer needed are removed, and all evaluations are kept."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.trainer_root import STAGE, TrainerRoot, dpo_plan, gate_spec, golden_cases
from tunegate_api.contract.process import Outcome
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set, task_set
from tunegate_api.judging.judgement import best_checkpoint
from tunegate_api.judging.stages import assess_stage
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_api.verdict.stop_rule import StopAction
from tunegate_trainer.process import files
from tunegate_trainer.process.files import is_complete, verify
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.retention import needed_steps

STEPS = (2, 4, 6, 8, 10)
MINIMUM = {"golden": {"rules": [{"name": "all", "minPassRate": "50%"}]}}


def run(root: TrainerRoot, stage: str = STAGE, **arguments: Any) -> Outcome:
    return train_role.run(root.context(stage=stage, **arguments))


def on_disk(root: TrainerRoot, stage: str = STAGE) -> list[int]:
    folder = root.workspace / root.paths.stage(stage)
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


class Measured:
    """Scripted scores of a stage's checkpoints, in place of a training whose scores cannot be chosen."""

    def __init__(self, root: TrainerRoot, golden: Sequence[int | str], cases: int = 20) -> None:
        self.request = root.context().request
        (gate,) = self.request.gates
        self._sets = {
            golden_set(gate.name): CaseSet(
                sha256=gate.golden_sha256, ids=[f"case-{i}" for i in range(cases)]
            ),
            task_set("dev", "exact_match"): CaseSet(sha256="0" * 64, ids=["row"]),
        }
        self._golden = [g if isinstance(g, str) else "p" * g + "f" * (cases - g) for g in golden]

    def after(self, steps: int) -> Results:
        """Return the results after this number of evaluated checkpoints."""
        return Results(
            sets=self._sets,
            evaluations=[
                Evaluation(
                    subject=Subject.CHECKPOINT if step else Subject.START,
                    stage=STAGE,
                    step=step,
                    outcomes={
                        golden_set("orders"): golden,
                        task_set("dev", "exact_match"): "p",
                    },
                )
                for step, golden in enumerate(self._golden[: steps + 1])
            ],
        )

    def kept(self, steps: int, accepted: int = 0, complete: Sequence[int] | None = None) -> set[int]:
        present = list(range(1, steps + 1)) if complete is None else list(complete)
        return needed_steps(self.request, self.after(steps), STAGE, accepted, present)


@pytest.mark.parametrize(
    ("golden", "kept"),
    [
        ([0, 11, 12, 13, 14], {3, 4}),  # the last two; one of them is the best
        ([0, 18, 12, 13, 14], {1, 3, 4}),  # and the best passing one
        ([0, 14, 14, 14, 14], {1, 3, 4}),  # the earliest of equal ones is the best
        ([0, 2, 3, 1, 1], {2, 3, 4}),  # none passes: the one that the stop rule compares with
        ([0, 12, 14, 13, 15], {2, 3, 4}),  # 2 is the best if the last is damaged
    ],
)
def test_last_best_and_stop_rule_checkpoints_are_kept(make_root, golden, kept):
    root = make_root(gates={"orders": gate_spec(golden_cases(), **MINIMUM)})
    assert Measured(root, golden).kept(4) == kept


def test_stop_by_must_pass_case_keeps_the_earlier_best(make_root):
    """The last checkpoint passes more cases than the best earlier checkpoint, but fails the critical case."""
    rules = [
        {"name": "all", "minPassRate": "90%"},
        {"name": "critical", "cases": ["case-4"], "minPassRate": "100%"},
    ]
    root = make_root(gates={"orders": gate_spec(golden_cases(), golden={"rules": rules})})
    measured = Measured(root, [0, 10, 9, 9, "f" * 5 + "p" * 15])
    found = assess_stage(measured.request, measured.after(4), STAGE, 0)
    assert found is not None
    assert (found.assessment.action, found.assessment.best_step) == (StopAction.STOP, 1)
    assert measured.kept(4) == {1, 3, 4}


def test_earlier_checkpoints_are_removed_after_a_stop_is_overridden(make_root):
    root = make_root(gates={"orders": gate_spec(golden_cases(), limits={"minPassRate": "90%"})})
    measured = Measured(root, [0, 17, 12, 11, 13, 12, 12])
    assert measured.kept(6) == {1, 5, 6}
    assert measured.kept(6, accepted=3) == {4, 5, 6}


def test_best_passing_checkpoint_is_always_on_disk(make_root):
    """The operator chooses the best passing checkpoint with the same function."""
    root = make_root(gates={"orders": gate_spec(golden_cases(), **MINIMUM)})
    measured = Measured(root, [3, 9, 12, 11, 15, 15, 10, 14, 13, 15, 19, 18])
    present: list[int] = []
    for step in range(1, 12):
        present = sorted(measured.kept(step, complete=[*present, step]))
        best = best_checkpoint(measured.request, measured.after(step), STAGE)
        assert best is None or best.step in present
        assert len(present) <= 5


def test_training_keeps_needed_checkpoints_and_all_evaluations(make_trained_root):
    root = make_trained_root(checkpoint_steps=STEPS)
    assert root.evaluated_steps() == [0, *STEPS]
    best = best_checkpoint(root.context().request, root.report().results, STAGE)
    assert best is not None
    assert on_disk(root) == sorted({best.step, 8, 10})
    assert all(not verify(root.checkpoint(step)) for step in on_disk(root))
    for step in STEPS:
        folder = root.workspace / root.paths.evaluation(STAGE, step)
        assert (folder / "golden-orders.jsonl").read_text().count("\n") == 20


def test_later_stage_does_not_remove_checkpoints_of_previous_stage(make_trained_root):
    root = make_trained_root(checkpoint_steps=(3,), later=[dpo_plan(checkpoint_steps=STEPS)])
    run(root, "dpo", start_step=3)
    results = root.report().results.merged(root.context(stage="dpo").report.results)
    best = best_checkpoint(root.context().request, results, "dpo")
    assert best is not None
    assert on_disk(root) == [3]
    assert set(on_disk(root, "dpo")) >= {best.step, 8, 10}
    assert len(on_disk(root, "dpo")) < len(STEPS)


def test_no_checkpoint_is_removed_if_the_base_evaluation_is_missing(make_trained_root):
    root = make_trained_root(checkpoint_steps=(3,), later=[dpo_plan(checkpoint_steps=STEPS)])
    shutil.rmtree(root.workspace / root.paths.evaluation(STAGE, 0))
    run(root, "dpo", start_step=3)
    assert on_disk(root, "dpo") == list(STEPS)


class Killed(BaseException):
    """An exception that nothing handles, like SIGKILL."""


@pytest.mark.parametrize("files_gone", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_kill_during_removal_leaves_no_partial_checkpoint(
    make_root, make_trained_root, monkeypatch, files_gone
):
    whole, root = make_trained_root(checkpoint_steps=STEPS), make_root(checkpoint_steps=STEPS)
    rmtree = files.shutil.rmtree

    def die(removed, *where, **how):
        path = Path(removed)
        if not (path.name.startswith("step-") and path.exists()):
            rmtree(removed, *where, **how)
            return
        for file in sorted(path.iterdir())[:files_gone]:
            file.unlink()
        raise Killed

    monkeypatch.setattr(files.shutil, "rmtree", die)
    with pytest.raises(Killed):
        run(root)
    monkeypatch.setattr(files.shutil, "rmtree", rmtree)
    half = [step for step in on_disk(root) if not is_complete(root.checkpoint(step))]
    assert len(half) == 1, "it was killed inside a removal"

    assert run(root) is Outcome.COMPLETED
    assert on_disk(root) == on_disk(whole)
    assert root.losses() == whole.losses()
    assert root.evaluation(10).digest == whole.evaluation(10).digest


def test_next_attempt_completes_interrupted_checkpoint_removal(make_root, monkeypatch):
    root = make_root(checkpoint_steps=STEPS)
    monkeypatch.setattr(train_role, "remove_unneeded", lambda *_: None)
    run(root)
    assert on_disk(root) == list(STEPS)
    monkeypatch.undo()
    assert run(root) is Outcome.COMPLETED, "nothing is left to train"
    assert len(on_disk(root)) < len(STEPS)
