"""The processes of the tests' API server end when the test process ends, even if it is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support import api_server as api_server_module
from support.api_server import api_server
from support.waiting import eventually

pytestmark = pytest.mark.cluster

TESTS = Path(__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from support.api_server import api_server
with api_server(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(120)
"""


def programs_below(folder: Path) -> list[psutil.Process]:
    """Return the running processes, without zombies, whose command line contains the path of ``folder``."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if any(f"{folder}/" in word for word in process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_api_server_processes_end_when_the_test_run_ends(tmp_path: Path, end: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    with holder, holder.stdout as output:
        assert output.readline() == "ready\n"
        assert len(programs_below(tmp_path)) == len(api_server_module.PROGRAMS)
        holder.send_signal(end)
        holder.wait(30)
    eventually(lambda: not programs_below(tmp_path), what="all programs ended")


def test_failed_start_reports_the_error_and_leaves_no_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_server_module, "API_SERVER_FLAGS", ("--no-such-flag",))
    with (
        pytest.raises(RuntimeError, match=r"(?s)kube-apiserver ended with exit code 1:.*no-such-flag"),
        api_server(tmp_path),
    ):
        pass
    assert programs_below(tmp_path) == []
