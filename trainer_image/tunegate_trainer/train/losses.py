"""Write losses.jsonl: one line per step in full precision, without gaps or repeats after a resume."""

import json
import os
from pathlib import Path
from typing import Any

from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.files import write_atomic

FILE = "losses.jsonl"


class LossFile:
    """The metrics of each step of a stage, written by one writer.

    A line has step, loss (mean over labelled tokens, for DPO over pairs), learning_rate, grad_norm, seconds,
    tokens (including prompts) and time (seconds since 1970); for DPO also reward_margin and reward_accuracy,
    means over pairs.
    """

    def __init__(self, folder: Path, writer: Writer) -> None:
        self._path = folder / FILE
        self._writer = writer

    def truncate_after(self, step: int) -> None:
        """Remove the steps after ``step``, because they will be trained again."""
        self._writer.check()
        if not self._writer.writes:
            return
        kept = [line for line in self.read() if line["step"] <= step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def read(self) -> list[dict[str, Any]]:
        """Return all steps in order, without a line that a crash cut short.

        If two writers wrote the same step, the last line counts.
        """
        if not self._path.exists():
            return []
        lines: dict[int, dict[str, Any]] = {}
        for text in self._path.read_text().splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                break
            lines[line["step"]] = line
        return [lines[step] for step in sorted(lines)]

    def append(self, line: dict[str, Any]) -> None:
        """Add a step. Raises :class:`Superseded` if this process is no longer the writer."""
        self._writer.check()
        if not self._writer.writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Flush all steps to disk. Called before a checkpoint is saved."""
        if self._writer.writes:
            with self._path.open("a") as file:
                os.fsync(file.fileno())

    def at(self, step: int) -> float | None:
        """Return the loss of a step, or None if it has no line."""
        return next((line["loss"] for line in self.read() if line["step"] == step), None)
