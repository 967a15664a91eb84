"""The rows of the sources of use Mix. They are trained on, but never held out, and do not change how the rows
of use Train are split."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.plan import MixedPlan
from tunegate_api.meta import Sha256, exact
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.parse import RowProblem, parse_rows
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.usable import Limit, SourceRows, TrainedRows, UsableRow
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.tokens.rows import Row


@dataclass(frozen=True)
class MixedRecords:
    """A source of use Mix."""

    name: str
    """The name of the source."""
    source: SourceRows[Row]
    sha256: Sha256
    weight: Fraction
    """How often each row is trained on per epoch."""


@dataclass(frozen=True)
class TrainedMix:
    """The rows of a source of use Mix that are trained on."""

    mixed: MixedRecords
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
            self.mixed.source,
            [i for i, position in enumerate(self.repeats) if self.masked[position]],
        )

    @property
    def plan(self) -> MixedPlan:
        """What the plan records about the source."""
        return MixedPlan(
            name=self.mixed.name,
            source_sha256=self.mixed.sha256,
            rows=len(self.rows),
            rows_per_epoch=len(self.repeats),
        )


def read_mix(
    context: Context, folder: DataFolder, tokenizer: PreTrainedTokenizerBase, longest: Limit
) -> list[MixedRecords]:
    """Read the sources of use Mix."""
    data, found = context.request.spec.data, []
    for source in data.mix:
        with open_source(context, source, source.field) as opened:
            records = read_records(opened.path, source.field)
            parsed = parse_rows(
                records, source.columns, data.held_out.group_by, folder.scratch, mixed=source.name
            )
        examples = folder.examples_file(source.name)
        rows = SourceRows(source.field, parsed, tokenizer, longest, examples, records.format.NAME)
        found.append(MixedRecords(source.name, rows, opened.sha256, exact(source.weight or "1")))
    return found


def repeat_by_weight(rows: Sequence[UsableRow[Row]], weight: Fraction) -> list[int]:
    """Return the positions of the rows of an epoch: each as often as the weight of its source.

    Of a weight of 2.3, each row is repeated twice, and 30 % of the rows, those whose prompts have the lowest
    hashes, once more. So a larger weight adds rows and removes none.
    """
    whole, rest = divmod(weight, 1)
    by_hash = sorted(range(len(rows)), key=lambda position: (rows[position].labelled.prompt, position))
    return [*range(len(rows))] * whole + sorted(by_hash[: round(rest * len(rows))])
