"""The rows of the sources of use Mix. They are trained on, but never held out, and do not change how the rows
of use Train are split."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tunegate_api.contract.plan import MixedPlan
from tunegate_trainer.data.parse import RowProblem
from tunegate_trainer.data.usable import SourceRows, TrainedRows, UsableRow
from tunegate_trainer.tokens.rows import Row


@dataclass(frozen=True)
class TrainedMix:
    """The rows of a source of use Mix that are trained on."""

    source: SourceRows[Row]
    rows: Sequence[UsableRow[Row]]
    """The rows, each once."""
    masked: Sequence[int]
    """For each of the ``rows``, how many earlier answers are masked because their prompts are held out."""
    repeats: Sequence[int]
    """The positions in ``rows`` of the rows of an epoch."""
    left_out: Sequence[RowProblem]
    """The rows that are not trained on, because they repeat held-out rows."""

    @property
    def epoch(self) -> TrainedRows[Row]:
        """The rows of an epoch."""
        return TrainedRows(
            [self.rows[position] for position in self.repeats],
            self.source,
            [i for i, position in enumerate(self.repeats) if self.masked[position]],
        )

    @property
    def plan(self) -> MixedPlan:
        """What the plan records about the source."""
        return MixedPlan(
            name=self.source.spec.name,
            source_sha256=self.source.sha256,
            rows=len(self.rows),
            rows_per_epoch=len(self.repeats),
        )


def repeat_by_weight(rows: Sequence[UsableRow[Row]], weight: Fraction) -> list[int]:
    """Return the positions of the rows of an epoch: each as often as the weight of its source.

    Of a weight of 2.3, each row is repeated twice, and 30 % of the rows, those whose prompts have the lowest
    hashes, once more. So a larger weight adds rows and removes none.
    """
    whole, rest = divmod(weight, 1)
    by_hash = sorted(range(len(rows)), key=lambda position: (rows[position].labelled.prompt, position))
    return [*range(len(rows))] * whole + sorted(by_hash[: round(rest * len(rows))])
