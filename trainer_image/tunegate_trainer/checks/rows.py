"""The rows that checks read: those of all sources before they are split, and afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunegate_trainer.data.sides import Sides
from tunegate_trainer.data.split import SIDES, Split
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.tokens.rows import Pair, Row


@dataclass(frozen=True)
class UsableRows:
    """All rows and pairs that can be trained on. Groups that share a prompt are joined."""

    rows: Sequence[Measured[Row]]
    pairs: Sequence[Measured[Pair]]
    groups_before: int
    """Groups before they were joined."""


@dataclass(frozen=True)
class SplitRows:
    """Rows and pairs on the three sides, as they are trained on and measured."""

    rows: Split[Measured[Row]]
    pairs: Split[Measured[Pair]]
    masked: Sequence[int]
    """For each training row, the earlier answers that are not learned because their prompts are held out."""
    earlier: Sides
    """The sides of the job that this one starts from."""
    conflicts: int
    """Rows and pairs that were left out because of these."""

    @property
    def total(self) -> int:
        """Rows on all sides."""
        return sum(len(self.rows.side(side)) for side in SIDES)
