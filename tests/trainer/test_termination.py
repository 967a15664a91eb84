"""The termination message reaches the file that Kubernetes reads, mounted into a read-only folder."""

import pytest

from tunegate_api.contract import ROOT_VARIABLE, ExitCode, Outcome, Termination
from tunegate_trainer.main import main


@pytest.mark.parametrize("before", ["", "x" * 5000])
def test_the_message_is_written_into_the_file_that_is_mounted_there(tmp_path, monkeypatch, before):
    mounted = tmp_path / "termination.json"
    mounted.write_text(before)
    inode = mounted.stat().st_ino
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["publish", "--digest", "0" * 64]) == ExitCode.INTERNAL_ERROR  # there is no request
    assert mounted.stat().st_ino == inode, "another file in its place would not be the one that is read"
    assert Termination.model_validate_json(mounted.read_bytes()).outcome is Outcome.FAILED
    assert [path.name for path in tmp_path.iterdir()] == ["termination.json"], "nothing can be made beside it"
