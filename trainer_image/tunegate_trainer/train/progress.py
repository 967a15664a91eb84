"""Report the progress of a stage to the operator: at most once a second, and after every evaluation."""

import resource
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import torch
from pydantic import ValidationError

from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.report import Usage
from tunegate_api.contract.results import Evaluation, Results
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.files import write_model

_INTERVAL = 1.0
"""Minimum number of seconds between two reports of steps."""
USAGE = "usage.json"
"""Name of the file with the steps, tokens and time of all attempts. It is written with every report, so at
most about a second is lost if the process is killed."""
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
_WINDOW = 50
"""The number of recent steps over which speed is averaged."""


class ProgressReporter:
    """Reports the progress of a stage. Raises :class:`Superseded` if another process took over."""

    def __init__(self, context: Context, writer: Writer, stage: StagePlan) -> None:
        self._context = context
        self._writer = writer
        self._stage = stage
        self._steps: deque[tuple[int, float]] = deque(maxlen=_WINDOW)  # tokens and seconds of recent steps
        self._last_report = 0.0
        self.step = 0
        self.loss: float | None = None
        self._evaluation = (-1, 0.0)  # step and seconds of the last evaluation
        self._usage_file = context.workspace / context.paths.stage(stage.name) / USAGE
        self._usage = _read_usage(self._usage_file)

    def resumed(self, step: int, loss: float | None, evaluations: Sequence[Evaluation]) -> None:
        """Set the step, loss and evaluations from which this attempt resumes. ``step`` is 0 in the first
        attempt."""
        self.step, self.loss = step, loss
        durations = [evaluation.seconds for evaluation in evaluations if evaluation.seconds]
        if durations:
            self._evaluation = (evaluations[-1].step, durations[-1])

    def trained(self, step: int, loss: float, tokens: int, seconds: float) -> None:
        """Record a completed optimizer step."""
        self.step, self.loss = step, loss
        self._steps.append((tokens, seconds))
        self._count(steps=1, tokens=tokens, training_seconds=seconds)
        if time.monotonic() - self._last_report >= _INTERVAL:
            self.report()

    def evaluated(self, step: int, seconds: float, results: Results) -> None:
        """Record a completed evaluation, and report ``results``, all results of the stage so far."""
        self._evaluation = (step, seconds or self._evaluation[1])  # cached results took no time
        self._count(evaluation_seconds=seconds)
        self.report(results=results)

    def report(self, activity: str | None = None, results: Results | None = None) -> None:
        """Send a report now. ``activity`` describes what the process does, or is None while it trains."""
        self._writer.check()
        self._last_report = time.monotonic()
        self._usage = self._usage.model_copy(update=_peaks(self._usage))
        if self._writer.writes:
            write_model(self._usage_file, self._usage)
        changes = {} if results is None else {"results": results}
        self._context.send_report(progress=self._progress(activity), usage=self._usage, **changes)

    def _count(self, **more: float) -> None:
        total = {name: round(getattr(self._usage, name) + value, 4) for name, value in more.items()}
        self._usage = self._usage.model_copy(update=total)

    def _progress(self, activity: str | None) -> Progress:
        now, total = datetime.now(UTC), self._stage.total_steps
        tokens, seconds = (
            (sum(column) for column in zip(*self._steps, strict=True)) if self._steps else (0, 0)
        )
        estimated_end = None
        if self._steps and seconds:
            last, evaluation_seconds = self._evaluation
            evaluations = sum(step > max(last, self.step - 1) for step in self._stage.checkpoint_steps)
            left = (total - self.step) * seconds / len(self._steps) + evaluations * evaluation_seconds
            estimated_end = now + timedelta(seconds=left)
        return Progress(
            stage=self._stage.name,
            step=self.step,
            total_steps=total,
            percent=100 * self.step // total,
            loss=None if self.loss is None else f"{self.loss:.4f}",
            tokens_per_second=f"{tokens / seconds:.0f}" if seconds else None,
            estimated_end=estimated_end,
            gpu_memory=_peak_gpu_memory(),
            activity=activity,
            pass_tokens=self._reduced_pass_tokens(),
            updated=now,
        )

    def _reduced_pass_tokens(self) -> int | None:
        planned = self._context.plan.stage(self._stage.name).parameters.pass_tokens
        used = self._stage.parameters.pass_tokens
        return used if used < planned else None


def _read_usage(path: Path) -> Usage:
    try:
        return Usage.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):  # a damaged file counts as zero
        return Usage()


def _peaks(before: Usage) -> dict[str, int]:
    """Return the peak memory in bytes, which is the maximum over this attempt and earlier ones. With a GPU,
    it is GPU memory, otherwise the memory of the process."""
    if torch.cuda.is_available():
        return {"peak_gpu_bytes": max(before.peak_gpu_bytes, torch.cuda.max_memory_allocated())}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
    return {"peak_process_bytes": max(before.peak_process_bytes, resident)}


def _peak_gpu_memory() -> str | None:
    if not torch.cuda.is_available():
        return None
    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
