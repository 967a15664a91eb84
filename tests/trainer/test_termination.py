"""The termination message is written to the file that Kubernetes mounts into a read-only folder."""

import pytest

from tunegate_api.contract.baselines import MeasuredBaseline
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Termination
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_trainer.main import End, main, termination_text


@pytest.mark.parametrize("before", ["", "x" * 5000])
def test_termination_message_is_written_in_place(tmp_path, monkeypatch, before):
    mounted = tmp_path / "termination.json"
    mounted.write_text(before)
    inode = mounted.stat().st_ino
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["publish", "--digest", "0" * 64]) == ExitCode.INTERNAL_ERROR  # there is no request
    assert mounted.stat().st_ino == inode, "another file in its place would not be the one that is read"
    assert Termination.model_validate_json(mounted.read_bytes()).outcome is Outcome.FAILED
    assert [path.name for path in tmp_path.iterdir()] == ["termination.json"], (
        "no other file can be created there"
    )


def test_termination_message_drops_oldest_baselines_that_do_not_fit():
    failure = Failure(reason="GateError", message="m" * 1024, hint="h" * 1024)
    measured = [MeasuredBaseline(key=f"{n:064}", sha256="f" * 64) for n in range(40)]
    text = termination_text(End(Outcome.FAILED, ExitCode.INTERNAL_ERROR, failure), "0" * 64, [], measured)
    termination = Termination.model_validate_json(text)
    assert len(text) <= 4096
    assert termination.failure is not None
    assert 20 <= len(termination.baselines) < 40
    assert termination.baselines == measured[-len(termination.baselines) :]
