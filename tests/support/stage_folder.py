"""Read the files of a training stage on a volume."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage of one job."""

    path: Path

    def checkpoints(self) -> list[int]:
        """Return the steps of the complete checkpoints."""
        return sorted(int(done.parent.name[5:]) for done in self.path.glob("step-*/DONE"))

    def evaluated(self) -> list[int]:
        """Return the steps of the evaluated checkpoints, also of removed ones."""
        folder = self.path.parents[1] / "evals" / self.path.name
        steps = [int(result.parent.name[5:]) for result in folder.glob("step-*/result.json")]
        return sorted(step for step in steps if step)

    def losses(self) -> dict[int, float]:
        """Return the loss by optimizer step. Fails if the file has a step twice."""
        lines = (self.path / "losses.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        by_step = {row["step"]: row["loss"] for row in rows}
        assert len(by_step) == len(rows)
        return by_step

    def trained(self) -> list[str]:
        """Return the lines of all optimizer steps up to the last checkpoint. If a step is trained again, its
        line changes, because the line contains the time."""
        lines = (self.path / "losses.jsonl").read_text().splitlines()
        return lines[: max(self.checkpoints())]

    def writers(self) -> int:
        """Return how many processes have claimed the folder."""
        return len(list(self.path.glob("epoch-*")))
