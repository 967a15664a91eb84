"""Stop and resume: SIGTERM, SIGKILL, damaged and incomplete checkpoints, two pods at once."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from support.full_volume import all_files
from support.trainer_root import STAGE, TrainerRoot
from support.waiting import eventually
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Termination
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.main import main
from tunegate_trainer.process import files
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError
from tunegate_trainer.process.files import is_complete, sha256_file, write_model
from tunegate_trainer.process.interruption import Interrupted, Interruption, Superseded
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.losses import LossFile


def run(root: TrainerRoot, interruption: Interruption | None = None) -> Outcome:
    return train_role.run(root.context(interruption=interruption))


def assert_same_run(left: TrainerRoot, right: TrainerRoot) -> None:
    """Compare bit by bit: every loss, every checkpoint's weights, every outcome."""
    assert left.losses() == right.losses()
    assert left.evaluated_steps() == right.evaluated_steps()
    for step in left.evaluated_steps():
        assert left.evaluation(step).outcomes == right.evaluation(step).outcomes
        assert left.evaluation(step).digest == right.evaluation(step).digest
        assert left.evaluation(step).loss == right.evaluation(step).loss


def test_evaluations_do_not_change_losses(make_root, base_model):
    often, once = (make_root(model=base_model, checkpoint_steps=steps) for steps in ((1, 2, 4, 6), (6,)))
    run(often)
    run(once)
    assert often.losses() == once.losses()
    assert often.evaluation(6).digest == once.evaluation(6).digest


def test_training_losses_do_not_depend_on_num_items_support(make_root, monkeypatch):
    parameters = {"batch_size": 8, "pass_tokens": 84, "lora_dropout": 0.0}
    usual, other = (make_root(parameters=parameters) for _ in range(2))
    run(usual)
    monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", False, raising=False)
    run(other)
    assert other.losses() == usual.losses()


def test_sigterm_saves_progress_and_does_not_change_final_results(
    make_root, make_trained_root, at_step, monkeypatch
):
    whole, root = make_trained_root(), make_root()
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))

    assert main(["train", "--stage", STAGE]) == ExitCode.INTERRUPTED
    assert is_complete(root.checkpoint(5)), "the step after the signal is finished and saved"
    assert root.report().outcome is Outcome.INTERRUPTED
    assert root.evaluated_steps() == [0, 3], "what is saved between checkpoints is not judged"

    assert main(["train", "--stage", STAGE, "--attempt", "2"]) == ExitCode.OK
    assert_same_run(whole, root)
    assert [p.name for p in sorted(root.stage_folder.glob("step-*"))] == ["step-000003", "step-000006"]
    assert not list(root.stage_folder.glob("scratch-*"))
    assert root.report().attempt == 2
    assert len(root.report().results.evaluations) == 3


@pytest.mark.usefixtures("warm_roles")
def test_killing_the_process_does_not_change_final_results(make_root):
    steps = (20, 40, 60)
    whole, root = make_root(checkpoint_steps=steps), make_root(checkpoint_steps=steps)
    process = subprocess.Popen(
        [sys.executable, "-m", "tunegate_trainer", "train", "--stage", STAGE],
        env=os.environ | {ROOT_VARIABLE: str(root.path)},
        stderr=subprocess.PIPE,
    )
    try:
        eventually(lambda: process.poll() is not None or steps_on_disk(root) > 25, seconds=120)
    finally:
        process.kill()
        _, log = process.communicate()
    assert process.returncode == -signal.SIGKILL, log.decode()
    assert is_complete(root.checkpoint(20))
    assert not is_complete(root.checkpoint(60))

    run(root)
    run(whole)
    assert_same_run(whole, root)


def steps_on_disk(root: TrainerRoot) -> int:
    path = root.stage_folder / "losses.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_partial_save_of_killed_process_is_ignored_and_removed(make_trained_root):
    whole, root = make_trained_root(), make_trained_root(interrupted_in=4)
    unfinished = root.stage_folder / "scratch-000001" / "checkpoint-6"
    unfinished.mkdir(parents=True)
    (unfinished / "adapter_model.safetensors").write_bytes(b"half of it")
    without_done = root.checkpoint(6)
    shutil.copytree(root.checkpoint(3), without_done)
    (without_done / "DONE").unlink()

    run(root)
    assert not unfinished.exists()
    assert_same_run(whole, root)


def interrupt_at(root: TrainerRoot, at_step: Callable[[int, Callable[[], object]], None], step: int) -> None:
    interruption = Interruption()
    at_step(step, interruption.request)
    with pytest.raises(Interrupted):
        run(root, interruption)


def test_unevaluated_checkpoint_is_evaluated_before_training_resumes(make_trained_root):
    # SIGTERM in the step of a checkpoint: it is saved, but the next attempt evaluates it.
    whole, root = make_trained_root(), make_trained_root(interrupted_in=2)
    assert (root.evaluated_steps(), is_complete(root.checkpoint(3))) == ([0], True)
    run(root)
    assert_same_run(whole, root)


def test_unreadable_checkpoint_is_kept_and_raises_storage_error(make_trained_root, monkeypatch):
    whole, root = make_trained_root(), make_trained_root(interrupted_in=4)
    before = all_files(root.stage_folder)

    def fails(path: Path) -> str:
        if path.name == "optimizer.pt":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return sha256_file(path)

    with monkeypatch.context() as patched:
        patched.setattr(files, "sha256_file", fails)
        with pytest.raises(StorageError, match=r"optimizer\.pt cannot be read: Input/output error"):
            run(root)
    after = all_files(root.stage_folder)
    assert {name: digest for name, digest in after.items() if name in before} == before
    run(root)
    assert_same_run(whole, root)


def test_damaged_evaluation_raises_storage_error(make_trained_root):
    root = make_trained_root(interrupted_in=4)
    result = root.workspace / root.paths.evaluation(STAGE, 3) / "result.json"
    result.write_text("{}")
    with pytest.raises(StorageError, match=r"step-000003/result\.json is damaged"):
        run(root)
    assert is_complete(root.checkpoint(3))


def test_damaged_checkpoint_is_not_resumed_from(make_trained_root, caplog):
    whole, root = whole_and_interrupted(make_trained_root)
    for step in (6, 4):
        flip_a_bit(root.checkpoint(step) / "adapter_model.safetensors")

    run(root)
    assert "damaged checkpoint step-000004" in caplog.text
    assert "adapter_model.safetensors does not match its digest" in caplog.text
    assert_same_run(whole, root)


def whole_and_interrupted(make_trained_root: Callable[..., TrainerRoot]) -> tuple[TrainerRoot, TrainerRoot]:
    """Return the roots of two equal runs with three checkpoints, of which the second was interrupted."""
    steps = (2, 4, 6)
    whole = make_trained_root(checkpoint_steps=steps)
    return whole, make_trained_root(checkpoint_steps=steps, interrupted_in=5)


@pytest.mark.parametrize("damage", ["removed", "{", "\xff"])
def test_checkpoint_with_damaged_manifest_is_not_resumed_from(make_trained_root, caplog, damage):
    whole, root = whole_and_interrupted(make_trained_root)
    for step in (6, 4):
        manifest = root.checkpoint(step) / "manifest.json"
        manifest.unlink() if damage == "removed" else manifest.write_text(damage, encoding="latin-1")

    run(root)
    assert "not resuming from damaged checkpoint step-000004: manifest.json" in caplog.text
    assert_same_run(whole, root)


def test_damaged_base_model_is_not_trained_on(make_root, monkeypatch):
    root = make_root()
    folder = root.workspace / root.paths.base_model(root.context().plan.model.digest)
    flip_a_bit(folder / "model.safetensors")
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", STAGE]) == ExitCode.STORAGE
    failure = root.report().failure
    assert failure is not None
    assert "model.safetensors does not match its digest" in failure.message
    assert failure.hint == "create the job again: its data Job fetches the model again"


def test_incomplete_base_model_is_not_trained_on(make_root):
    root = make_root()
    (root.workspace / root.paths.base_model(root.context().plan.model.digest) / "DONE").unlink()
    with pytest.raises(SourceNotFoundError, match=r"the base model in .* is incomplete"):
        run(root)


def test_base_model_with_cached_baselines_is_not_reported_as_damaged(make_root, caplog):
    caplog.set_level("INFO")
    root = make_root(checkpoint_steps=(1,))
    run(root)
    assert run(root) is Outcome.COMPLETED
    assert caplog.text.count("base model: verified the digest of every file") == 2, "once a process"


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_finished_stage_is_not_trained_again(make_trained_root):
    root = make_trained_root()
    files = [p for p in root.stage_folder.rglob("*") if p.is_file() and p.name != "usage.json"]
    before, usage = {p: sha256_file(p) for p in files}, root.report().usage
    assert run(root) is Outcome.COMPLETED
    after = {p: sha256_file(p) for p in root.stage_folder.rglob("*") if p.is_file()}
    assert {p.name for p in after.keys() - before.keys()} == {"epoch-000002", "usage.json"}
    assert {p: after[p] for p in before} == before
    again = root.report().usage
    assert (again.steps, again.tokens, again.training_seconds) == (
        usage.steps,
        usage.tokens,
        usage.training_seconds,
    ), "only the peak of this process's memory may change"


def test_superseded_process_writes_no_checkpoint_and_no_report(make_root, at_step, monkeypatch):
    root = make_root()
    reports: list[bytes] = []

    def take_over() -> None:
        Writer.claim(root.stage_folder)
        reports.append(root.context().report_file.read_bytes())

    at_step(4, take_over)
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", STAGE]) == ExitCode.INTERRUPTED
    assert not root.checkpoint(6).exists()
    assert len(root.losses()) == 4, "the new writer's file gets no lines of the old one"
    assert root.evaluated_steps() == [0, 3]
    assert root.context().report_file.read_bytes() == reports[0]
    termination = Termination.model_validate_json((root.path / "termination.json").read_bytes())
    assert termination.outcome is Outcome.INTERRUPTED


@pytest.fixture
def while_evaluating(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[TrainerRoot, int, Callable[[], object]], None]:
    """Return a function that sets up an action, called while the checkpoint of a step is evaluated."""

    def set_up(root: TrainerRoot, step: int, do: Callable[[], object]) -> None:
        generate = evaluate.generate

        def do_and_generate(*args: Any, **stops: Any) -> Any:
            if root.checkpoint(step).exists():
                do()
            return generate(*args, **stops)

        monkeypatch.setattr(evaluate, "generate", do_and_generate)

    return set_up


def test_process_superseded_during_evaluation_leaves_no_result(make_root, while_evaluating):
    root = make_root()
    while_evaluating(root, 3, lambda: Writer.claim(root.stage_folder))
    with pytest.raises(Superseded):
        run(root)
    assert root.evaluated_steps() == [0]


def test_superseded_process_keeps_the_newer_report_on_sigterm(make_root, while_evaluating, monkeypatch):
    root = make_root()

    def take_over_and_stop() -> None:
        Writer.claim(root.stage_folder)
        write_model(root.context().report_file, root.report().model_copy(update={"attempt": 2}))
        os.kill(os.getpid(), signal.SIGTERM)

    while_evaluating(root, 3, take_over_and_stop)
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", STAGE]) == ExitCode.INTERRUPTED
    assert (root.report().attempt, root.report().outcome) == (2, None)


def test_last_of_two_loss_lines_for_a_step_counts(tmp_path):
    losses = LossFile(tmp_path, Writer.claim(tmp_path))
    for step, loss in ((1, 0.5), (2, 0.4), (3, 0.3), (2, 0.25)):
        losses.append({"step": step, "loss": loss})
    assert [(line["step"], line["loss"]) for line in losses.read()] == [(1, 0.5), (2, 0.25), (3, 0.3)]
    assert losses.at(2) == 0.25


def test_write_claim_by_a_second_pod_supersedes_the_first_pod(tmp_path):
    first, second = Writer.claim(tmp_path), Writer.claim(tmp_path)
    assert second.epoch > first.epoch
    second.check()
    with pytest.raises(Superseded):
        first.check()


def test_checkpoint_and_state_contain_only_needed_files(make_trained_root):
    root = make_trained_root()
    assert sorted(p.name for p in root.checkpoint(6).iterdir()) == [
        "DONE",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    assert sorted(p.name for p in (root.stage_folder / "state-000006").iterdir()) == [
        "DONE",
        "manifest.json",
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    ]
    config = json.loads((root.checkpoint(6) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "package://tiny", "no path of this machine"


def test_only_the_two_newest_checkpoints_keep_their_training_state(make_root):
    root = make_root(checkpoint_steps=(1, 2, 3, 4))
    run(root)
    assert sorted(p.name for p in root.stage_folder.glob("state-*")) == ["state-000003", "state-000004"]


def test_run_restarted_from_step_0_resumes_from_its_new_checkpoints(make_root, at_step, monkeypatch):
    root = make_root(checkpoint_steps=(1, 2, 3, 4, 5, 6))
    interrupt_at(root, at_step, 5)
    damaged = sorted(path.name for path in root.stage_folder.glob("state-*"))
    assert damaged == ["state-000004", "state-000005"]
    for step in (4, 5):
        flip_a_bit(root.checkpoint(step) / "adapter_model.safetensors")
    interrupt_at(root, at_step, 2)  # starts from the beginning, because older states are gone
    trained, append = [], LossFile.append

    def append_and_note(self: LossFile, line: dict[str, Any]) -> None:
        trained.append(line["step"])
        append(self, line)

    monkeypatch.setattr(LossFile, "append", append_and_note)
    run(root)
    assert trained == [3, 4, 5, 6]


def test_damaged_training_state_is_not_resumed_from(make_trained_root, caplog):
    whole, root = make_trained_root(), make_trained_root(interrupted_in=4)
    flip_a_bit(root.stage_folder / "state-000005" / "optimizer.pt")
    run(root)
    assert "not resuming from damaged checkpoint step-000005: optimizer.pt" in caplog.text
    assert_same_run(whole, root)
