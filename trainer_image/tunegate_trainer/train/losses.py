"""losses.jsonl: one line a step, in full precision, without gaps or repeats after a resume."""

import json
from pathlib import Path
from typing import Any

from tunegate_trainer.files import write_atomic

FILE = "losses.jsonl"


class LossFile:
    """The steps of a stage: step, loss (mean over completion tokens), learning_rate, grad_norm, seconds, and
    tokens (prompts included)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def cut_back(self, step: int) -> None:
        """Forget the steps after ``step``: they are trained again."""
        kept = [line for line in self.read() if line["step"] <= step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def read(self) -> list[dict[str, Any]]:
        """All steps; a line that a crash cut short is left out."""
        if not self._path.exists():
            return []
        lines = []
        for text in self._path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break
        return lines

    def append(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def at(self, step: int) -> float | None:
        """The loss of a step."""
        return next((line["loss"] for line in self.read() if line["step"] == step), None)
