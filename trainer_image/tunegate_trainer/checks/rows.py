"""The rows that checks read: all usable rows before the split, and the split rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.labels import count_labels
from tunegate_trainer.data.near_duplicates import NearDuplicates
from tunegate_trainer.data.production import Production
from tunegate_trainer.data.shingles import Template
from tunegate_trainer.data.sides import Sides
from tunegate_trainer.data.split import SIDES, Split
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import Pair, Row


@dataclass(frozen=True)
class UsableRows:
    """All rows and pairs that can be trained on, after groups with a common prompt were joined."""

    rows: Sequence[UsableRow[Row]]
    pairs: Sequence[UsableRow[Pair]]
    groups_before: int
    """The number of groups before they were joined."""
    near_duplicates: NearDuplicates
    """The near-duplicates among the :attr:`documents`."""
    production: Production | None = None
    """The production inputs that the prompts are compared with. None without a source of use Production."""

    @property
    def documents(self) -> Documents:
        """The texts of all rows and pairs."""
        return Documents(self.rows, self.pairs)

    @cached_property
    def labels(self) -> Counter[str] | None:
        """The number of rows of each label, or None if the answers are not labels. Computed once."""
        return count_labels(measured.labelled.row for measured in self.rows)


Leaks = tuple[list[tuple[int, int, bool]], int, int]
"""The first leaks, the number of all leaks, and the number of training rows with leaks. A leak has the
indices of a training row and a held-out row, and whether they are near-duplicates."""


@dataclass(frozen=True)
class SplitRows:
    """Rows and pairs by side (train, dev, test)."""

    rows: Split[UsableRow[Row]]
    pairs: Split[UsableRow[Pair]]
    masked: Sequence[int]
    """For each training row, how many earlier answers are masked because their prompts are held out."""
    earlier: Sides
    """The sides of prompts and groups in the job that this job starts from. Empty if it starts from no
    job."""
    conflicts: int
    """How many rows and pairs were excluded. An earlier job held out each of them, but trained on other rows
    of the same group."""
    template: Template
    """The words that many rows have in common."""
    left_apart: int = 0
    """How many rows and pairs are in clusters of similar rows that are too large to stay in one split."""

    leaks: Leaks | None = None
    """The training rows that repeat held-out rows. None if they were not looked for."""
    mixed: int = 0
    """The number of rows of use Mix that are trained on. They are not in :attr:`rows`."""

    @property
    def trained(self) -> Documents:
        """The texts of training rows and pairs."""
        return Documents(self.rows.train, self.pairs.train)

    @property
    def held_out(self) -> Documents:
        """The texts of dev and test rows, and then of dev and test pairs."""
        return Documents([*self.rows.dev, *self.rows.test], [*self.pairs.dev, *self.pairs.test])

    @property
    def leaked(self) -> list[tuple[UsableRow[Any], UsableRow[Any]]]:
        """The training row and the held-out row of each of the first :attr:`leaks`."""
        found = self.leaks[0] if self.leaks else []
        trained, held_out = self.trained, self.held_out
        return [(trained.measured(row), held_out.measured(other)) for row, other, _ in found]

    @property
    def total(self) -> int:
        """The number of train, dev and test rows together."""
        return sum(len(self.rows.side(side)) for side in SIDES)
