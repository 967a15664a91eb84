"""The job's data folder: the files with train, dev and test rows, and report.json with the results of
checks."""

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
    """The files that the data role writes for other roles and for people."""

    path: Path
    report: dict[str, Any] = field(default_factory=dict)

    def note(self, entries: dict[str, Any]) -> None:
        """Add ``entries`` to report.json."""
        self.report |= entries
        write_atomic(self.path / "report.json", json.dumps(self.report, indent=1, ensure_ascii=False) + "\n")

    def note_pairs(self, entries: dict[str, Any]) -> None:
        """Add ``entries`` about preference data to report.json."""
        self.note({"preference": self.report.get("preference", {}) | entries})

    def write_split(self, split: Split[Measured[RowT]], prefix: str = "") -> dict[str, SplitPlan]:
        """Write one file per split (train, dev, test). Return the number of rows and the digest of each file,
        which the plan records."""
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
