"""Start one rank per GPU of a pod, forward signals to all of them, and exit as one process.

torchrun is not used because it turns every exit code into 1, and kills the ranks thirty seconds after
SIGTERM, which is too short to save a large model (docs/adr/0013-several-processes.md).
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from tunegate_api.contract.process import MASTER_VARIABLE, Termination, cause_priority
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_trainer.distributed.topology import LOCAL_RANK_VARIABLE, TERMINATION_VARIABLE
from tunegate_trainer.process.cpus import cpu_count

logger = logging.getLogger(__name__)

STRAGGLER_SECONDS = 120.0
"""Number of seconds that the other ranks may run after one rank has failed. They may wait for the failed rank
forever, so they are killed afterwards."""
_POLL_SECONDS = 0.2
_SIGNAL_BASE = 128


def launch(arguments: Sequence[str], processes: int, root: Path) -> int:
    """Run the trainer with ``arguments`` in several ``processes``, one for each rank of this pod.

    When they have ended, choose the rank whose end best explains the outcome: return its exit code, and write
    its termination message to ``root``.
    """
    with tempfile.TemporaryDirectory() as folder:
        messages = [Path(folder) / f"{rank}.json" for rank in range(processes)]
        environment = {
            MASTER_VARIABLE: f"127.0.0.1:{_free_port()}",
            **os.environ,
            "OMP_NUM_THREADS": str(max(1, cpu_count() // processes)),
        }
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "tunegate_trainer", *arguments],
                env=environment | {LOCAL_RANK_VARIABLE: str(rank), TERMINATION_VARIABLE: str(message)},
            )
            for rank, message in enumerate(messages)
        ]

        def forward_signal(signum: int, _: FrameType | None) -> None:
            for child in children:
                child.send_signal(signum)

        signal.signal(signal.SIGTERM, forward_signal)
        killed = _wait(children)

        def information(rank: int) -> tuple[bool, int]:
            """Return how well the end of a rank explains the outcome. A rank that the launcher killed
            explains nothing, because it only waited for the failed rank."""
            return rank not in killed, cause_priority(_exit_code(children[rank]), _failure(messages[rank]))

        chosen = max(range(processes), key=information)
        if messages[chosen].exists():
            (root / "termination.json").write_bytes(messages[chosen].read_bytes())
        return _exit_code(children[chosen])


def _wait(children: Sequence["subprocess.Popen[bytes]"]) -> set[int]:
    """Wait until all ranks have ended. If a rank fails, wait ``STRAGGLER_SECONDS`` for the other ranks, and
    then kill those that are still running.

    Return the ranks that were killed.
    """
    deadline: float | None = None
    killed: set[int] = set()
    while None in (codes := [child.poll() for child in children]):
        if deadline is None and any(codes):
            deadline = time.monotonic() + STRAGGLER_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            logger.warning("one rank failed and others are still running: killing them")
            for rank, code in enumerate(codes):
                if code is None:
                    children[rank].kill()
                    killed.add(rank)
            deadline = None
        time.sleep(_POLL_SECONDS)
    return killed


def _exit_code(child: "subprocess.Popen[bytes]") -> int:
    """Return the exit code of a process in the form that containers use: after a signal, 128 plus the
    signal's number."""
    code: int = child.returncode
    return code if code >= 0 else _SIGNAL_BASE - code


def _failure(message: Path) -> Failure | None:
    try:
        return Termination.model_validate_json(message.read_bytes()).failure
    except (FileNotFoundError, ValidationError):  # it was killed
        return None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
