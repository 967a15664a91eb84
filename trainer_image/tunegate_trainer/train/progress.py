"""What the operator hears of a running stage: at most once a second, and after every evaluation."""

import time
from collections import deque
from datetime import UTC, datetime, timedelta

import torch

from tunegate_api.contract import Results
from tunegate_api.plan import StagePlan
from tunegate_api.v1alpha1.finetunejob_status import Progress
from tunegate_trainer.context import Context
from tunegate_trainer.train.writer import Writer

_INTERVAL = 1.0
"""Seconds between two reports of steps."""
_WINDOW = 50
"""Steps that speed is averaged over."""


class ProgressReporter:
    """Reports for the writer of a stage; a process that was superseded reports nothing any more."""

    def __init__(self, context: Context, writer: Writer, stage: StagePlan) -> None:
        self._context = context
        self._writer = writer
        self._stage = stage
        self._steps: deque[tuple[int, float]] = deque(maxlen=_WINDOW)  # tokens and seconds of recent steps
        self._last_report = 0.0
        self.step = 0
        self.loss: float | None = None
        self._evaluation = (-1, 0.0)  # step and seconds of the last one

    def trained(self, step: int, loss: float, tokens: int, seconds: float) -> None:
        """An optimizer step is done."""
        self.step, self.loss = step, loss
        self._steps.append((tokens, seconds))
        if time.monotonic() - self._last_report >= _INTERVAL:
            self.report()

    def evaluated(self, step: int, seconds: float, results: Results) -> None:
        """An evaluation is done; ``results`` are all of the stage so far."""
        self._evaluation = (step, seconds)
        self.report(results=results)

    def report(self, activity: str | None = None, results: Results | None = None) -> None:
        """Report now. ``activity`` is what goes on instead of a training step."""
        self._writer.check()
        self._last_report = time.monotonic()
        changes = {} if results is None else {"results": results}
        self._context.tell(progress=self._progress(activity), **changes)

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
            micro_batch_size=self._reduced_micro_batch(),
            updated=now,
        )

    def _reduced_micro_batch(self) -> int | None:
        planned = self._context.plan.stage(self._stage.name).parameters.micro_batch_size
        used = self._stage.parameters.micro_batch_size
        return used if used < planned else None


def _peak_gpu_memory() -> str | None:
    if not torch.cuda.is_available():
        return None
    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
