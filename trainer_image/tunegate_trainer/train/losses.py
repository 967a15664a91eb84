"""Write losses.jsonl, with one line per optimizer step in full precision. A resumed run leaves no gaps or
duplicates."""

import json
import os
from pathlib import Path
from typing import Any

from tunegate_api.judging.case_comparison import parse_lines
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.files import write_atomic

FILE = "losses.jsonl"


class LossFile:
    """The metrics of each optimizer step of a stage. Only one process writes them.

    A line has step, loss (the mean over labelled tokens, or over pairs for DPO), learning_rate, grad_norm,
    seconds, tokens (including prompts) and time (in seconds since 1970). For DPO, it also has reward_margin
    and reward_accuracy, which are means over pairs.
    """

    def __init__(self, folder: Path, writer: Writer) -> None:
        self._path = folder / FILE
        self._writer = writer

    def truncate_after(self, step: int) -> None:
        """Remove the lines of all steps after ``step``, because these steps will be trained again."""
        self._writer.check()
        if not self._writer.writes:
            return
        kept = [line for line in self.read() if line["step"] <= step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def read(self) -> list[dict[str, Any]]:
        """Return the lines in the order of steps, up to the first line that a crash cut short.

        If two processes wrote the same step, the last line counts.
        """
        if not self._path.exists():
            return []
        lines = {line["step"]: line for line in parse_lines(self._path.read_text())}
        return [lines[step] for step in sorted(lines)]

    def append(self, line: dict[str, Any]) -> None:
        """Append the line of a step. Raises :class:`Superseded` if this process is no longer the writer."""
        self._writer.check()
        if not self._writer.writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Flush all lines to disk. Call it before a checkpoint is completed."""
        if self._writer.writes:
            with self._path.open("a") as file:
                os.fsync(file.fileno())

    def at(self, step: int) -> float | None:
        """Return the loss of a step, or None if it has no line."""
        return next((line["loss"] for line in self.read() if line["step"] == step), None)
