"""The runner of the trainer's work for commands."""

import subprocess
import sys
from pathlib import Path

import pytest

from tunegate_api.contract.process import FAILURE_FILE, ROOT_VARIABLE, ExitCode
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason

WORK = """
import os, sys
from tunegate_trainer.process.command import run_command
from tunegate_trainer.process.errors import UserError

def work(root, show):
    show("reading the model")
    print("a library prints")
    os.write(1, b"so does its C code")
    {end}

sys.exit(run_command(work))
"""


def run(root: Path, end: str) -> subprocess.CompletedProcess[str]:
    code = WORK.format(end=end)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={ROOT_VARIABLE: str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("end", "code"),
    [("", ExitCode.OK), ('raise UserError("no model", "name one")', ExitCode.USER_ERROR)],
    ids=["completes", "fails"],
)
def test_only_shown_lines_are_on_stdout(tmp_path: Path, end: str, code: ExitCode) -> None:
    ended = run(tmp_path, end)
    assert (ended.returncode, ended.stdout) == (code, "reading the model\n")


def test_failure_is_in_a_file(tmp_path: Path) -> None:
    run(tmp_path, 'raise UserError("no model", "name one")')
    failure = Failure.model_validate_json((tmp_path / FAILURE_FILE).read_bytes())
    assert failure == Failure(reason=Reason.USER_ERROR, message="no model", hint="name one")


def test_unexpected_error_is_on_stderr_and_has_no_failure_file(tmp_path: Path) -> None:
    ended = run(tmp_path, 'raise KeyError("bug")')
    assert ended.returncode == 1
    assert "KeyError: 'bug'" in ended.stderr
    assert not (tmp_path / FAILURE_FILE).exists()


def test_full_disk_is_a_storage_failure(tmp_path: Path) -> None:
    ended = run(tmp_path, 'raise OSError(28, "No space left on device", "workspace/x")')
    failure = Failure.model_validate_json((tmp_path / FAILURE_FILE).read_bytes())
    assert (ended.returncode, failure.reason) == (ExitCode.STORAGE, Reason.STORAGE)
