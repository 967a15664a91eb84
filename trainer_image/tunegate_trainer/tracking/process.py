"""Start and stop the processes that send metrics to trackers, one for each tracker."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunegate_api.contract.process import ROOT_VARIABLE, Role
from tunegate_api.v1alpha2.tracking import Tracking
from tunegate_trainer.process.context import Context

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 60.0
"""Number of seconds that an ending pod waits for the last attempts. Attempts have shorter time limits, so the
pod waits this long only if a client is still being imported."""


class TrackerProcesses:
    """One process for each tracker. A failure in such a process is never an error of the pod."""

    def __init__(self, processes: Mapping[str, "subprocess.Popen[bytes]"], *, has_next_pod: bool) -> None:
        self._processes = processes
        self._has_next_pod = has_next_pod

    @classmethod
    def start(
        cls, names: Sequence[str], role: Role, root: Path, failure: str | None = None
    ) -> "TrackerProcesses":
        """Start a process for each tracker in ``names``. ``failure`` is the reason why the job failed, or
        None.

        In the track role, a process ends as soon as it has sent everything.
        """
        program = [sys.executable, "-m", "tunegate_trainer.tracking"]
        arguments = [str(role), *(["--failure", failure] if failure else [])]
        environment = os.environ | {ROOT_VARIABLE: str(root)}
        processes = {
            name: subprocess.Popen([*program, name, *arguments], stdin=subprocess.PIPE, env=environment)
            for name in names
        }
        return cls(processes, has_next_pod=role is not Role.TRACK)

    def wait(self) -> list[str]:
        """Wait until all processes have ended. Call it only in the track role: in other roles, processes end
        only after :meth:`finish`.

        Return the trackers that do not have all metrics.
        """
        return [name for name, process in self._processes.items() if process.wait() != 0]

    def finish(self) -> None:
        """Tell each process to make its last attempt to send metrics. Does not wait; :meth:`close` waits for
        these attempts."""
        for process in self._processes.values():
            if process.stdin:  # it is a pipe
                process.stdin.close()

    def close(self) -> list[str]:
        """Wait for the last attempts, with a timeout, and end all processes. Log and return the trackers that
        do not have all metrics."""
        behind = []
        until = time.monotonic() + CLOSING_SECONDS
        for name, process in self._processes.items():
            try:
                is_complete = process.wait(max(0.0, until - time.monotonic())) == 0
            except subprocess.TimeoutExpired:
                is_complete = False
            if not is_complete:
                behind.append(name)
                sends = "the job's next pod sends" if self._has_next_pod else "another pod may send"
                logger.warning("%s is not up to date; %s the missing metrics", name, sends)
        self.abandon()
        return behind

    def abandon(self) -> None:
        """Kill all processes at once. They make no last attempt to send metrics."""
        for process in self._processes.values():
            process.kill()
            process.wait()


def start_trackers(context: Context) -> TrackerProcesses | None:
    """Start a process for each of the job's trackers. If the role's options name trackers, start only those.

    Return None if the job's spec has no trackers, or if this is not the primary rank.
    """
    tracking = context.request.spec.tracking
    if not context.is_primary or not tracking:
        return None
    named, failure = context.options.trackers, context.options.failure
    wanted = [name for name in tracker_names(tracking) if named is None or name in named]
    return TrackerProcesses.start(wanted, context.role, context.root, failure)


def tracker_names(tracking: Tracking) -> list[str]:
    """Return the names of a job's trackers. Weights & Biases is left out if WANDB_MODE is ``disabled``."""
    wandb = tracking.wandb and os.environ.get("WANDB_MODE") != "disabled"
    return [*(["mlflow"] if tracking.mlflow else []), *(["wandb"] if wandb else [])]
