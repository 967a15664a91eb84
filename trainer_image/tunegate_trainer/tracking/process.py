"""The processes that tell the trackers: started with the pod's own, and ended with it in bounded time."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunegate_api.contract import ROOT_VARIABLE, Role
from tunegate_api.v1alpha1.tracking import Tracking
from tunegate_trainer.process.context import Context

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 60.0
"""How long an ending pod waits for its trackers to be told the rest, while it waits for the operator too. A
tracker that does not answer ends the wait sooner; this is for a client that is still being imported."""


class TrackerProcesses:
    """One process a tracker. Nothing that goes wrong in one is an error here."""

    def __init__(self, processes: Mapping[str, "subprocess.Popen[bytes]"], *, follows: bool) -> None:
        self._processes = processes
        self._follows = follows

    @classmethod
    def start(
        cls, names: Sequence[str], role: Role, root: Path, failure: str | None = None
    ) -> "TrackerProcesses":
        """Start one for each of these trackers. Those of the track role end once they told everything;
        ``failure`` is why the job failed."""
        arguments = [str(role), *(["--failure", failure] if failure else [])]
        return cls({name: _start(name, arguments, root) for name in names}, follows=role is not Role.TRACK)

    def wait(self) -> list[str]:
        """Wait until all of them ended by themselves, which those of the track role do. Returns the trackers
        that are behind."""
        return [name for name, process in self._processes.items() if process.wait() != 0]

    def finish(self) -> None:
        """Ask each for its last try. Returns at once; :meth:`close` waits."""
        for process in self._processes.values():
            if process.stdin:  # it is a pipe
                process.stdin.close()

    def close(self) -> list[str]:
        """Wait a bounded time for the last try of each. Returns, and says, which trackers are behind."""
        behind = []
        until = time.monotonic() + CLOSING_SECONDS
        for name, process in self._processes.items():
            try:
                told_all = process.wait(max(0.0, until - time.monotonic())) == 0
            except subprocess.TimeoutExpired:
                told_all = False
            if not told_all:
                behind.append(name)
                sends = "the job's next pod sends" if self._follows else "another pod may send"
                logger.warning("%s is not up to date; %s the missing metrics", name, sends)
        self.abandon()
        return behind

    def abandon(self) -> None:
        """End what still runs, without a last try."""
        for process in self._processes.values():
            process.kill()
            process.wait()


def start_trackers(context: Context) -> TrackerProcesses | None:
    """Start a process for each of the job's trackers, or of those that the role's options name.

    Returns None where the job has no tracker, or another rank reports.
    """
    tracking = context.request.spec.tracking
    if not context.speaks or not tracking:
        return None
    named, failure = context.options.trackers, context.options.failure
    wanted = [name for name in names_of(tracking) if named is None or name in named]
    return TrackerProcesses.start(wanted, context.role, context.root, failure)


def names_of(tracking: Tracking) -> list[str]:
    """The trackers that a job has, but for one that its environment switches off."""
    wandb = tracking.wandb and os.environ.get("WANDB_MODE") != "disabled"
    return [*(["mlflow"] if tracking.mlflow else []), *(["wandb"] if wandb else [])]


def _start(name: str, arguments: Sequence[str], root: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tunegate_trainer.tracking", name, *arguments],
        stdin=subprocess.PIPE,
        env=os.environ | {ROOT_VARIABLE: str(root)},
    )
