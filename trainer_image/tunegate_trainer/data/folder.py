"""The job's data folder: rows in three parts, and the report that grows with every check."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunegate_api.plan import SplitPlan
from tunegate_trainer.data.parse import RowT
from tunegate_trainer.data.split import SIDES, Split
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.process.files import write_atomic
from tunegate_trainer.tokens.rows import write_rows


@dataclass
class DataFolder:
    """What the data role leaves for the others, and for people."""

    path: Path
    report: dict[str, Any] = field(default_factory=dict)

    def note(self, part: dict[str, Any]) -> None:
        """Add to report.json what was found."""
        self.report |= part
        write_atomic(self.path / "report.json", json.dumps(self.report, indent=1, ensure_ascii=False) + "\n")

    def note_pairs(self, part: dict[str, Any]) -> None:
        """Add what was found in preference data."""
        self.note({"preference": self.report.get("preference", {}) | part})

    def write_split(self, split: Split[Measured[RowT]], prefix: str = "") -> dict[str, SplitPlan]:
        """Write a file for each side, and say what the plan pins of it."""
        return {
            side: SplitPlan(
                rows=len(rows),
                sha256=write_rows(
                    self.path / f"{prefix}{side}.jsonl", [measured.labelled.row for measured in rows]
                ),
            )
            for side in SIDES
            for rows in [split.side(side)]
        }
