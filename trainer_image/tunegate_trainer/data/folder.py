"""The job's data folder: the files with train, dev and test rows, and report.json with the results of
checks."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunegate_api.contract.plan import SplitPlan
from tunegate_api.contract.workspace import TRAIN_EXAMPLES
from tunegate_trainer.data.split import HELD_OUT, Split
from tunegate_trainer.data.usable import TrainedRows, UsableRow
from tunegate_trainer.process.files import sha256_file, write_atomic
from tunegate_trainer.tokens.example_file import example_writer
from tunegate_trainer.tokens.rows import RowT, write_rows


@dataclass
class DataFolder:
    """The files that the data role writes for other roles and for people."""

    path: Path
    report: dict[str, Any] = field(default_factory=dict)
    """The content of report.json. It may have an entry for each of a million rows, so it is written once."""

    def note(self, entries: dict[str, Any]) -> None:
        """Add ``entries`` to the report."""
        self.report |= entries

    def note_mixed(self, name: str, entries: dict[str, Any]) -> None:
        """Add ``entries`` about a source of use Mix to the report."""
        mix = self.report.get("mix", {})
        self.note({"mix": {**mix, name: mix.get(name, {}) | entries}})

    def note_pairs(self, entries: dict[str, Any]) -> None:
        """Add ``entries`` about preference data to the report."""
        self.note({"preference": self.report.get("preference", {}) | entries})

    def write_report(self) -> None:
        """Write report.json."""
        write_atomic(self.path / "report.json", json.dumps(self.report, indent=1, ensure_ascii=False) + "\n")

    @property
    def scratch(self) -> Path:
        """A folder for temporary files. It exists after it is first read."""
        folder = self.path / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def examples_file(self, source: str) -> Path:
        """Return the temporary file for the tokenized rows or pairs of the source with this name."""
        return self.scratch / f"{source}.arrow"

    def write_split(
        self, split: Split[UsableRow[RowT]], trained: Sequence[TrainedRows[RowT]], prefix: str = ""
    ) -> dict[str, SplitPlan]:
        """Write one file per split (train, dev, test), and a file with the tokenized training rows.

        ``trained`` has the rows of the train file. Returns the number of rows and the digests of each split,
        which the plan records.
        """
        sides = {
            "train": [row for part in trained for row in part.rows],
            **{side: split.side(side) for side in HELD_OUT},
        }
        plans = {
            side: SplitPlan(
                rows=len(rows),
                sha256=write_rows(
                    self.path / f"{prefix}{side}.jsonl", (measured.labelled.row for measured in rows)
                ),
            )
            for side, rows in sides.items()
        }
        examples = self.path / f"{prefix}{TRAIN_EXAMPLES}"
        with example_writer(examples) as writer:
            for part in trained:
                part.write_examples(writer)
        plans["train"] = plans["train"].model_copy(update={"examples_sha256": sha256_file(examples)})
        return plans

    def remove_scratch(self) -> None:
        """Remove all temporary files."""
        shutil.rmtree(self.path / "scratch", ignore_errors=True)
