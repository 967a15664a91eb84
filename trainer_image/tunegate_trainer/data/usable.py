"""The parsed and tokenized rows of a data source, and which of them can be trained on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Generic

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.data.parse import Labelled, Parsed, RowProblem, RowT
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.examples import answer_tokens, completion_tokens, examples_of


@dataclass(frozen=True)
class Measured(Generic[RowT]):
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

    kept: list[Measured[RowT]]
    too_long: list[RowProblem]
    refused: list[RowProblem]
    """Rows that the chat template refuses."""
    hint: str
    """What the user can do about the first row in ``refused``. Empty if no row was refused."""


@dataclass(frozen=True)
class SourceRows(Generic[RowT]):
    """The rows of one source. They are tokenized when :attr:`tokenized` is first read."""

    field: str
    """``data.train`` or ``data.preference``."""
    parsed: Parsed[RowT]
    tokenizer: PreTrainedTokenizerBase
    longest: Limit

    @cached_property
    def tokenized(self) -> Tokenized[RowT]:
        return _tokenize(self.tokenizer, self.parsed.rows, self.longest.tokens)

    @property
    def total(self) -> int:
        """The number of rows in the source, with bad rows and duplicates."""
        return len(self.parsed.rows) + len(self.parsed.bad) + len(self.parsed.duplicates)

    def share(self, problems: Sequence[RowProblem]) -> Fraction:
        """Return the number of ``problems`` as a share of all rows."""
        return Fraction(len(problems), self.total)

    @property
    def dropped(self) -> list[RowProblem]:
        """Bad rows, duplicates and rows that are too long, in the order of the file."""
        problems = [
            *self.parsed.bad,
            *self.parsed.duplicates,
            *self.tokenized.refused,
            *self.tokenized.too_long,
        ]
        return sorted(problems, key=lambda problem: problem.line)

    @property
    def parsed_report(self) -> dict[str, Any]:
        """The keys for data/report.json about the parsed rows."""
        parsed = self.parsed
        return {
            "rows": self.total,
            "bad": [asdict(problem) for problem in parsed.bad],
            "dropped": [asdict(problem) for problem in parsed.duplicates],
        }

    @property
    def tokenized_report(self) -> dict[str, Any]:
        """The keys for data/report.json about the tokenized rows."""
        return {
            "dropped": [asdict(problem) for problem in self.dropped],
            "lengths": _histogram(self.tokenized.kept),
        }


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Labelled[RowT]], longest: int
) -> Tokenized[RowT]:
    kept: list[Measured[RowT]] = []
    too_long: list[RowProblem] = []
    refused: list[RowProblem] = []
    hint = ""
    for row in rows:
        try:
            examples = examples_of(tokenizer, row.row)
        except UserError as error:
            refused.append(RowProblem(row.line, str(error)))
            hint = hint or error.hint or "correct or remove these rows"
            continue
        lengths = [len(one["input_ids"]) for one in examples]
        if max(lengths) <= longest:
            learned = sum(map(completion_tokens, examples))
            kept.append(Measured(row, sum(lengths), learned, row.group, max(map(answer_tokens, examples))))
        else:
            problem = f"the row has {max(lengths)} tokens, but at most {longest} are allowed"
            too_long.append(RowProblem(row.line, problem))
    return Tokenized(kept, too_long, refused, hint)


def _histogram(rows: Sequence[Measured[RowT]], buckets: int = 10) -> dict[str, Any]:
    """Return a histogram of row lengths in tokens, with at most ``buckets`` bins of equal width."""
    lengths = sorted(row.tokens for row in rows)
    if not lengths:
        return {}
    width = max(1, -(-lengths[-1] // buckets))
    counts = [sum(1 for n in lengths if low < n <= low + width) for low in range(0, lengths[-1], width)]
    return {
        "mean": round(sum(lengths) / len(lengths), 1),
        "max": lengths[-1],
        "width": width,
        "counts": counts,
    }
