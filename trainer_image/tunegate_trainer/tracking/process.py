"""The processes that tell the trackers: started with the pod's own, and ended with it in bounded time."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tunegate_api.contract import ROOT_VARIABLE, Role
from tunegate_api.v1alpha1.tracking import Tracking

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 60.0
"""How long an ending pod waits for its trackers to be told the rest, while it waits for the operator too. A
tracker that does not answer ends the wait sooner; this is for a client that is still being imported."""


class TrackerProcesses:
    """One process a tracker. Nothing that goes wrong in one is an error here."""

    def __init__(self, processes: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
        self._processes = processes

    @classmethod
    def start(cls, tracking: Tracking | None, role: Role, root: Path) -> "TrackerProcesses":
        """Start one for each tracker that the job has."""
        names = []
        if tracking and tracking.mlflow:
            names.append("mlflow")
        if tracking and tracking.wandb and os.environ.get("WANDB_MODE") != "disabled":
            names.append("wandb")
        return cls({name: _start(name, role, root) for name in names})

    def finish(self) -> None:
        """Ask each for its last try. Returns at once; :meth:`close` waits."""
        for process in self._processes.values():
            if process.stdin:  # it is a pipe
                process.stdin.close()

    def close(self) -> None:
        """Wait a bounded time for the last try of each, and say which tracker is behind."""
        until = time.monotonic() + CLOSING_SECONDS
        for name, process in self._processes.items():
            try:
                told_all = process.wait(max(0.0, until - time.monotonic())) == 0
            except subprocess.TimeoutExpired:
                told_all = False
            if not told_all:
                logger.warning("%s is behind; the job's next pod sends what is missing", name)
        self.abandon()

    def abandon(self) -> None:
        """End what still runs, without a last try."""
        for process in self._processes.values():
            process.kill()
            process.wait()


def _start(name: str, role: Role, root: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tunegate_trainer.tracking", name, str(role)],
        stdin=subprocess.PIPE,
        env=os.environ | {ROOT_VARIABLE: str(root)},
    )
