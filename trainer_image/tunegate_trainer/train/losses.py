"""losses.jsonl: one line a step, in full precision, without gaps or repeats after a resume."""

import json
import os
from pathlib import Path
from typing import Any

from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.files import write_atomic

FILE = "losses.jsonl"


class LossFile:
    """The steps of a stage: step, loss (mean over learned tokens, of DPO over pairs), learning_rate,
    grad_norm, seconds, tokens (prompts included), and time (seconds since 1970); of DPO reward_margin and
    reward_accuracy too, means over pairs. Written by one writer."""

    def __init__(self, folder: Path, writer: Writer) -> None:
        self._path = folder / FILE
        self._writer = writer

    def cut_back(self, step: int) -> None:
        """Forget the steps after ``step``: they are trained again."""
        self._writer.check()
        if not self._writer.writes:
            return
        kept = [line for line in self.read() if line["step"] <= step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def read(self) -> list[dict[str, Any]]:
        """All steps in order; a line that a crash cut short is left out.

        Of a step that stands there twice the last line counts, which the newer writer wrote.
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
        """Let all steps reach the disk: before a checkpoint says that they were trained."""
        if self._writer.writes:
            with self._path.open("a") as file:
                os.fsync(file.fileno())

    def at(self, step: int) -> float | None:
        """The loss of a step."""
        return next((line["loss"] for line in self.read() if line["step"] == step), None)
