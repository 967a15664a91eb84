"""The parsed and tokenized rows of a data source, and which of them can be trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Generic

from pyarrow.ipc import RecordBatchStreamWriter  # type: ignore[import-untyped]
from transformers import PreTrainedTokenizerBase

from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.data import DataSource
from tunegate_trainer.data.parse import Labelled, ParsedRows, RowProblem, in_order
from tunegate_trainer.data.tokenize import Refused, processes_for, tokenize
from tunegate_trainer.tokens.example_file import ExampleFile, example_writer, to_batch
from tunegate_trainer.tokens.examples import examples_of
from tunegate_trainer.tokens.rows import Pair, RowT


@dataclass(frozen=True)
class UsableRow(Generic[RowT]):
    """A usable row or pair with its lengths in tokens."""

    labelled: Labelled[RowT]
    tokens: int
    """Number of tokens in prompt and completion. For a pair, the sum of its two examples."""
    learned: int
    """How many of the ``tokens`` carry loss."""
    group: str
    """Like ``labelled.group``, but groups that share a prompt are joined."""
    answer: int
    """Number of tokens in the last answer, including the end of its turn. For a pair, in the longer
    answer."""
    position: int
    """The position of its first example in the file of the source's examples."""


@dataclass(frozen=True)
class Limit:
    """The maximum length of an example in tokens."""

    tokens: int
    stage: str | None
    """The stage that sets this limit by ``training.maxLength``. None if the limit is that of the model."""


@dataclass(frozen=True)
class Tokenized(Generic[RowT]):
    """The tokenized rows of a source. Each row is in exactly one of the lists ``kept``, ``too_long`` and
    ``refused``."""

    kept: list[UsableRow[RowT]]
    too_long: list[RowProblem]
    refused: list[RowProblem]
    """Rows that the chat template refuses."""
    hint: str
    """What the user can do about the first row in ``refused``. Empty if no row was refused."""


@dataclass(frozen=True)
class SourceRows(Generic[RowT]):
    """The rows of one source. They are tokenized when :attr:`tokenized` is first read."""

    spec: DataSource
    sha256: Sha256
    parsed: ParsedRows[RowT]
    tokenizer: PreTrainedTokenizerBase
    longest: Limit
    examples: Path
    """The file to which the examples of the kept rows or pairs are written: one of a row, two of a pair."""
    format: str = ""
    """The name of the file format."""

    @property
    def field(self) -> str:
        """The source in messages, such as ``data.sources[invoices]``."""
        return self.spec.field

    @cached_property
    def tokenized(self) -> Tokenized[RowT]:
        with example_writer(self.examples) as writer:
            return _tokenize(self.tokenizer, self.parsed.rows, self.longest.tokens, writer)

    @property
    def examples_per_row(self) -> int:
        """One example of a row, two of a pair."""
        return 2 if self.parsed.rows and isinstance(self.parsed.rows[0].row, Pair) else 1

    @property
    def total(self) -> int:
        """The number of rows in the source, with bad rows and duplicates."""
        return len(self.parsed.rows) + len(self.parsed.bad) + len(self.parsed.duplicates)

    def share(self, problems: Sequence[RowProblem]) -> Fraction:
        """Return the number of ``problems`` as a share of all rows."""
        return Fraction(len(problems), self.total)

    @property
    def dropped(self) -> list[RowProblem]:
        """Bad rows, duplicates and rows that are too long, in the order of the files."""
        return in_order(
            [
                *self.parsed.bad,
                *self.parsed.duplicates,
                *self.tokenized.refused,
                *self.tokenized.too_long,
            ]
        )

    @property
    def report(self) -> dict[str, Any]:
        """The keys for data/report.json. If a check refused the source before its rows were tokenized, they
        are only about the parsed rows."""
        parsed = self.parsed
        tokenized = "tokenized" in vars(self)
        dropped = self.dropped if tokenized else parsed.duplicates
        return {
            "format": self.format,
            "shape": parsed.shape,
            "rows": self.total,
            "bad": [problem.entry for problem in parsed.bad],
            "dropped": [problem.entry for problem in dropped],
            **({"lengths": _histogram(self.tokenized.kept)} if tokenized and self.tokenized.kept else {}),
        }


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Labelled[RowT]],
    longest: int,
    writer: RecordBatchStreamWriter,
) -> Tokenized[RowT]:
    found: Tokenized[RowT] = Tokenized([], [], [], "")
    unread, position, hint = iter(rows), 0, ""
    for chunk in tokenize(tokenizer, (row.row for row in rows), longest, processes_for(len(rows))):
        writer.write_batch(chunk.examples)
        for result in chunk.results:
            row = next(unread)
            if isinstance(result, Refused):
                found.refused.append(RowProblem(row.place, result.reason))
                hint = hint or result.hint
            elif result.longest > longest:
                problem = f"the row has {result.longest} tokens, but at most {longest} are allowed"
                found.too_long.append(RowProblem(row.place, problem))
            else:
                found.kept.append(
                    UsableRow(row, result.tokens, result.learned, row.group, result.answer, position)
                )
                position += result.examples
    return replace(found, hint=hint)


@dataclass(frozen=True)
class TrainedRows(Generic[RowT]):
    """Rows of a source that are trained on in an epoch. A row may be repeated."""

    rows: Sequence[UsableRow[RowT]]
    source: SourceRows[RowT]
    changed: Sequence[int] = ()
    """The positions in ``rows`` of those that were changed after they were tokenized."""

    def write_examples(self, writer: RecordBatchStreamWriter) -> None:
        """Write the examples of the rows. Those of changed rows are tokenized again, all others copied."""
        stored, each = ExampleFile(self.source.examples), self.source.examples_per_row
        start = 0
        for end in [*self.changed, len(self.rows)]:
            positions = [row.position + i for row in self.rows[start:end] for i in range(each)]
            for batch in stored.batches(positions):
                writer.write_batch(batch)
            if end < len(self.rows):
                writer.write_batch(to_batch(examples_of(self.source.tokenizer, self.rows[end].labelled.row)))
            start = end + 1


def _histogram(rows: Sequence[UsableRow[RowT]], buckets: int = 10) -> dict[str, Any]:
    """Return a histogram of row lengths in tokens, with at most ``buckets`` bins of equal width."""
    lengths = sorted(row.tokens for row in rows)
    width = max(1, -(-lengths[-1] // buckets))
    counts = [sum(1 for n in lengths if low < n <= low + width) for low in range(0, lengths[-1], width)]
    return {
        "mean": round(sum(lengths) / len(lengths), 1),
        "max": lengths[-1],
        "width": width,
        "counts": counts,
    }
