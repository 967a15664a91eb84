"""The end of a trainer process: exit code, message and hint, last report, termination message."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest
import torch

from support.trainer_root import STAGE, gate_spec
from tunegate_api.cases.case_lines import inline_text
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role, Termination
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer import main as main_module
from tunegate_trainer.main import End, end_of, main, termination_text
from tunegate_trainer.process.errors import BadDataError
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role


@pytest.fixture
def start(make_root, monkeypatch):
    """Return a function that makes a root, and sets the environment of the next process to it."""

    def make(**changes):
        root = make_root(**changes)
        monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
        return root

    return make


def termination(root) -> Termination:
    return Termination.model_validate_json((root.path / "termination.json").read_bytes())


def test_successful_role_writes_report_and_termination_message(start):
    root = start(checkpoint_steps=(1,))
    assert main(["train", "--stage", STAGE]) == ExitCode.OK
    context = root.context()
    assert root.report().outcome is Outcome.COMPLETED
    left = termination(root)
    assert left == Termination(
        exit_code=0,
        outcome=Outcome.COMPLETED,
        report_sha256=context.report_sha256,
        baselines=left.baselines,
    )
    assert left.baselines, "of the base model, which it measured"


def test_garbage_collection_is_off_only_during_role_import(start, monkeypatch):
    start()
    enabled = {}

    def broken(name):
        enabled[name] = gc.isenabled()
        raise ImportError(name)

    monkeypatch.setattr(main_module, "import_module", broken)
    assert main(["train", "--stage", STAGE]) == ExitCode.INTERNAL_ERROR
    assert enabled == {"tunegate_trainer.roles.train": False, "tunegate_trainer.report": True}
    assert gc.isenabled()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "needed"),
    [
        pytest.param({}, set(), id="LoRA"),
        pytest.param({"quantization": "NF4", "lora_dropout": 0.0}, {"bitsandbytes"}, id="QLoRA"),
    ],
)
def test_role_does_not_import_unneeded_large_packages(start, parameters, needed):
    root = start(checkpoint_steps=(1,), parameters=parameters)
    command = [sys.executable, "-X", "importtime", "-m", "tunegate_trainer", "train", "--stage", STAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert termination(root).outcome is Outcome.COMPLETED, done.stderr
    modules = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    imported = {name.partition(".")[0] for name in modules if "." in name}  # failed imports are listed too
    assert "peft" in imported
    assert imported & {"bitsandbytes", "scipy", "sklearn", "wandb"} == needed


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_reported_with_a_hint_and_no_traceback(start, caplog, capsys):
    root = start(spec={"resources": {"accelerator": "GPU"}})
    assert main(["train", "--stage", STAGE]) == ExitCode.NO_ACCELERATOR
    assert "spec.resources.accelerator is GPU, but PyTorch finds no CUDA device" in caplog.text
    assert "set spec.resources.accelerator: CPU" in caplog.text
    assert "Traceback" not in capsys.readouterr().err
    failure = termination(root).failure
    assert failure is not None
    assert failure.reason == Reason.NO_ACCELERATOR
    assert "CPU" in failure.hint
    assert root.report().failure == failure


def test_unwritable_home_is_replaced_by_a_temporary_folder(start, monkeypatch, tmp_path):
    """A pod's user has no home folder, and the root file system is read-only."""
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    start()
    main(["publish"])
    assert os.environ["HOME"] == str(tmp_path)


def test_writable_home_is_kept(start, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    start()
    main(["publish"])
    assert os.environ["HOME"] == str(tmp_path)


def test_error_names_the_broken_line_of_a_golden_file(start):
    text = inline_text([{"id": "a", "prompt": "hi", "expect": [{"type": "equals", "value": "ho"}]}])
    spec = gate_spec() | {
        "sets": [
            {"name": "golden", "source": {"configMap": "golden", "key": "cases.jsonl"}, "sha256": "0" * 64}
        ]
    }
    root = start(gates={"orders": spec}, inputs={"golden/cases.jsonl": text + '{"id": "b", "prompt": 3}\n'})
    assert main(["train", "--stage", STAGE]) == ExitCode.BAD_DATA
    failure = termination(root).failure
    assert failure is not None
    assert failure.message.startswith("EvalGate orders: golden set: line 2: ")


def test_changed_golden_file_is_refused(start):
    text = inline_text([{"id": "a", "prompt": "hi", "expect": [{"type": "equals", "value": "ho"}]}])
    spec = gate_spec() | {
        "sets": [
            {"name": "golden", "source": {"configMap": "golden", "key": "cases.jsonl"}, "sha256": "0" * 64}
        ]
    }
    root = start(gates={"orders": spec}, inputs={"golden/cases.jsonl": text})
    (root.path / "inputs" / "golden" / "cases.jsonl").write_text(text.replace("ho", "ha"))
    assert main(["train", "--stage", STAGE]) == ExitCode.BAD_DATA
    assert "a golden set is immutable" in root.report().failure.hint


def test_training_rows_changed_after_planning_are_refused(start):
    root = start()
    with (root.data / "train.jsonl").open("a") as file:
        file.write("\n")
    assert main(["train", "--stage", STAGE]) == ExitCode.BAD_DATA
    assert "data/train.jsonl was changed after the plan was made" in root.report().failure.message


def test_unknown_target_modules_are_named(start):
    root = start(parameters={"target_modules": ["no_such_layer"]})
    assert main(["train", "--stage", STAGE]) == ExitCode.USER_ERROR
    assert "no_such_layer" in root.report().failure.message


def test_diverged_training_is_a_user_error_naming_the_learning_rate(start):
    root = start(parameters={"learning_rate": 1e30, "max_grad_norm": 0.0})
    assert main(["train", "--stage", STAGE]) == ExitCode.USER_ERROR
    assert "training diverged" in root.report().failure.message
    assert "lower training.learningRate" in root.report().failure.hint


def test_missing_base_model_is_reported_as_not_found(start):
    root = start()
    (root.workspace / Workspace.models).rename(root.workspace / "elsewhere")
    assert main(["train", "--stage", STAGE]) == ExitCode.NOT_FOUND
    assert root.report().failure.reason == Reason.NOT_FOUND


def test_internal_error_shows_a_traceback(start, capsys):
    root = start()
    (root.path / "plan" / "plan.json").write_text("{")
    assert main(["train", "--stage", STAGE]) == ExitCode.INTERNAL_ERROR
    assert "Traceback" in capsys.readouterr().err
    assert termination(root).failure.reason == Reason.INTERNAL_ERROR


def test_missing_request_still_leaves_a_termination_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["gate", "--stage", STAGE, "--step", "3"]) == ExitCode.INTERNAL_ERROR
    assert "request.json" in capsys.readouterr().err
    assert json.loads((tmp_path / "termination.json").read_text())["outcome"] == "Failed"


def test_report_rendering_error_does_not_change_outcome(start, caplog):
    root = start(checkpoint_steps=(1,))
    (root.workspace / root.paths.report).mkdir(parents=True)  # a folder in place of the file
    assert main(["train", "--stage", STAGE]) == ExitCode.OK
    assert "report.html could not be rendered" in caplog.text


def raising(error: BaseException):
    def work() -> Outcome:
        raise error

    return work


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM])
def test_unwritable_volume_is_a_storage_failure(number):
    end = end_of(raising(OSError(number, os.strerror(number), "workspace/x")))
    assert (end.exit_code, end.failure.reason) == (ExitCode.STORAGE, Reason.STORAGE)
    assert not end.exit_code.is_permanent, "volumes are grown"


def test_full_volume_is_recognized_from_library_message():
    end = end_of(raising(RuntimeError("I/O error: No space left on device (os error 28)")))
    assert end.exit_code is ExitCode.STORAGE


def test_permission_error_on_volume_names_the_user():
    end = end_of(raising(PermissionError(errno.EACCES, "Permission denied", "workspace/x")))
    assert end.failure.message == "the volume cannot be used: [Errno 13] Permission denied: 'workspace/x'"
    assert (
        end.failure.hint
        == f"the trainer runs as user {os.getuid()}: give this user read and write permission on the volume"
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_cuda_out_of_memory_is_permanent_with_a_hint(error):
    end = end_of(raising(error))
    assert end.exit_code is ExitCode.CUDA_OUT_OF_MEMORY
    assert end.failure.reason == Reason.CUDA_OUT_OF_MEMORY
    assert "lower training.maxLength" in end.failure.hint
    assert "quantization: NF4" in end.failure.hint


def test_user_error_shows_message_and_hint_without_traceback(caplog, capsys):
    end = end_of(raising(BadDataError("row 7 has no completion", "fix the row")))
    assert end.exit_code is ExitCode.BAD_DATA
    assert caplog.messages == ["row 7 has no completion", "hint: fix the row"]
    assert capsys.readouterr().err.count("Traceback") == 0


def test_sigterm_interrupts_a_role_that_has_nothing_to_save():
    interruption = Interruption()
    interruption.install()
    end = end_of(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert (end.outcome, end.exit_code) == (Outcome.INTERRUPTED, ExitCode.INTERRUPTED)


def test_sigterm_is_deferred_only_until_progress_is_saved():
    interruption = Interruption()
    with interruption.deferred():
        interruption.request()
        with pytest.raises(Interrupted), interruption.immediate():
            pytest.fail("the block was entered despite SIGTERM")
    interruption.ignore()
    interruption.request()


def test_termination_message_fits_the_kubernetes_limit():
    failure = Failure(reason=Reason.BAD_DATA, message="ﷺ" * 1024, hint="ﷺ" * 1024)
    text = termination_text(End(Outcome.FAILED, ExitCode.BAD_DATA, failure), "0" * 64)
    assert len(text.encode()) <= 4096
    assert json.loads(text)["failure"]["reason"] == "BadData"


def test_gate_reports_have_no_stage(make_root):
    assert make_root().context(Role.GATE).report.file_name == "gate.json"


def test_sigterm_during_import_is_handled_afterwards(start, monkeypatch):
    """Python and transformers wrap an exception that is raised while a class is created in RuntimeErrors."""
    imported = []

    def interrupted(name: str) -> ModuleType:
        os.kill(os.getpid(), signal.SIGTERM)
        imported.append(name)
        return import_module(name)

    root = start()
    monkeypatch.setattr(main_module, "import_module", interrupted)
    assert main(["train", "--stage", STAGE]) == ExitCode.INTERRUPTED
    assert imported[0] == "tunegate_trainer.roles.train"
    assert not root.stage_folder.exists(), "nothing was started"


def test_sigterm_turned_into_import_error_still_interrupts(start, monkeypatch):
    def lazily(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def wrapped(*_: object, **__: object) -> None:
        try:
            lazily()
        except Interrupted as error:
            raise ModuleNotFoundError("Could not import module 'AutoModel'") from error

    start()
    monkeypatch.setattr(train_role, "verified_base", wrapped)
    assert main(["train", "--stage", STAGE]) == ExitCode.INTERRUPTED


def test_missing_module_is_not_an_interruption(start, monkeypatch):
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'kernels'")

    start()
    monkeypatch.setattr(train_role, "verified_base", missing)
    assert main(["train", "--stage", STAGE]) == ExitCode.INTERNAL_ERROR
