"""Send metrics to Weights & Biases: a group for the job, with one run for the job and one for each stage.

The client sends from a process of its own and does not report what has arrived. Therefore each attempt
resumes a run, logs new points, and finishes the run, because finishing waits until everything is uploaded.
The run's summary shows which steps were already sent. In offline mode there is no server with a summary, so
the whole run is written again.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import wandb

from tunegate_trainer.tracking.runs import ATTEMPT_SECONDS, EVALUATED, JOB, TRAINED, RunState, TrackedRun

SECONDS = 10
"""Time limit in seconds for a response of the server, and for uploading everything when a run is finished."""
REPORT_DIGEST = "report_sha256"
MODE_VARIABLE = "WANDB_MODE"
_CLEARABLE = ("failure", "stop")
"""Keys of the summary that are cleared if they no longer apply, because a later attempt succeeded or a person
decided to continue."""
_OFFLINE = ("offline", "dryrun")
_UNFINISHED = "unfinished-"
OFFLINE_SECONDS = 50
"""Time limit in seconds for writing all runs of a job. An ending pod waits until they are written."""


@dataclass
class WandbTracker:
    """Sends runs to one project."""

    project: str
    entity: str | None
    uid: str
    """The uid of the job."""
    folder: Path
    """The folder in which offline runs are written to ``wandb/``."""
    _seen: dict[str, TrackedRun] = field(default_factory=dict)
    """The runs as they were last sent."""

    @property
    def pause(self) -> float | None:
        """Seconds between two attempts; None in offline mode, where a run is written once, at the end."""
        return None if self._offline else 60.0

    @property
    def _offline(self) -> bool:
        return os.environ.get(MODE_VARIABLE) in _OFFLINE

    @property
    def attempt_seconds(self) -> int:
        """Time limit of one attempt in seconds. In offline mode it is longer, to write all runs."""
        return OFFLINE_SECONDS if self._offline else ATTEMPT_SECONDS

    def send(self, runs: Sequence[TrackedRun]) -> None:
        """Send the runs that have changed. Errors of the client are not caught."""
        for run in runs:
            if self._seen.get(run.key) == run:
                continue
            if self._offline:
                self._write(run)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    self._send(run, Path(folder))
            self._seen[run.key] = run

    def run_id(self, key: str) -> str:
        """Return the id of a run, which is the same in every pod and attempt."""
        return self.uid if key == JOB else f"{self.uid}-{key.rpartition('/')[2]}"

    def _write(self, run: TrackedRun) -> None:
        """Write the run as a folder for ``wandb sync``, and replace the folder that an earlier pod wrote.

        Each folder has the whole run, because uploading a folder replaces the run. A folder has a temporary
        name until it is complete.
        """
        runs = self.folder / "wandb"
        runs.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left)
        earlier = sorted(runs.glob(f"offline-run-*-{self.run_id(run.key)}"))
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self.folder) as unfinished:
            self._send(run, Path(unfinished))
            (written,) = (Path(unfinished) / "wandb").glob("offline-run-*")
            for path in earlier:
                shutil.rmtree(path)
            written.rename(runs / written.name)

    def _send(self, run: TrackedRun, folder: Path) -> None:
        resume: Literal["allow"] | None = None if self._offline else "allow"
        with wandb.init(
            project=self.project,
            entity=self.entity,
            id=self.run_id(run.key),
            name=run.name,
            group=self.uid,
            job_type=run.key.partition("/")[0],
            resume=resume,
            config=dict(run.parameters),
            settings=_settings(folder, updates_state=run.state is not RunState.RUNNING),
        ) as tracked:
            _log_run(tracked, run)


def _log_run(tracked: Any, run: TrackedRun) -> None:
    """Log everything that the open run ``tracked`` does not have yet. If the run failed, finish it as
    failed."""
    tracked.define_metric(TRAINED, hidden=True)
    tracked.define_metric(EVALUATED, hidden=True)
    tracked.define_metric("train/*", step_metric=TRAINED)
    for group in sorted({name.partition("/")[0] for point in run.evaluations for name in point.metrics}):
        tracked.define_metric(f"{group}/*", step_metric=EVALUATED)
    for marker, points in ((TRAINED, run.training), (EVALUATED, run.evaluations)):
        last = tracked.summary.get(marker)
        for point in points:
            if last is None or point.step > last:
                tracked.log(dict(point.metrics))
    if run.report and tracked.summary.get(REPORT_DIGEST) != run.report_sha256:
        page = wandb.Html(run.report.read_text(encoding="utf-8"), inject=False)
        tracked.log({"report": page})
        tracked.summary[REPORT_DIGEST] = run.report_sha256
    overcome = {name: "" for name in _CLEARABLE if tracked.summary.get(name)}
    tracked.summary.update(overcome | dict(run.tags) | {"state": str(run.state)})
    if run.state is RunState.FAILED:
        tracked.finish(exit_code=1)


def _settings(folder: Path, *, updates_state: bool) -> wandb.Settings:
    """Return settings with which only logged metrics are sent, and nothing about the machine, process, code
    or output."""
    return wandb.Settings(
        root_dir=str(folder),
        silent=True,
        allow_val_change=True,
        console="off",
        symlink=False,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        init_timeout=SECONDS,
        login_timeout=SECONDS,
        finish_timeout=SECONDS,
        finish_timeout_raises=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        x_update_finish_state=updates_state,
    )
