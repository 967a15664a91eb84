"""Rows that can be trained on: sound, and short enough. What cannot is named, and counted."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Generic

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.data.parse import Labelled, Parsed, RowProblem, RowT
from tunegate_trainer.process.errors import BadDataError, UserError
from tunegate_trainer.tokens.examples import answer_tokens, completion_tokens, examples_of

SHOWN_PROBLEMS = 10
"""Bad rows that an error names; the report on the volume has all of them."""


@dataclass(frozen=True)
class Measured(Generic[RowT]):
    """A usable row with its length in tokens, prompt and completion, and the group it stays with."""

    labelled: Labelled[RowT]
    tokens: int
    """Of a pair, those of its two examples."""
    learned: int
    """Of these, the tokens that carry loss."""
    group: str
    answer: int
    """Of these, the tokens of the answer, and the end of its turn; of a pair, of the longer one."""


@dataclass(frozen=True)
class Limit:
    """How long an example may be."""

    tokens: int
    stage: str | None
    """Whose ``training.maxLength`` it is; None where it is the most that the model takes."""


def usable_rows(
    field: str,
    parsed: Parsed[RowT],
    tokenizer: PreTrainedTokenizerBase,
    longest: Limit,
    note: Callable[[dict[str, Any]], None],
    *,
    max_too_long: Fraction,
) -> tuple[list[Measured[RowT]], int]:
    """The rows of the source ``field`` whose examples are no longer than ``longest``, and how many were left
    out. ``note`` is told of all of them.

    Raises :class:`BadDataError` for bad rows, none at all, or more that are too long than the share
    ``max_too_long``.
    """
    note(
        {
            "rows": len(parsed.rows) + len(parsed.bad) + len(parsed.duplicates),
            "bad": [asdict(problem) for problem in parsed.bad],
            "dropped": [asdict(problem) for problem in parsed.duplicates],
        }
    )
    _refuse_bad(field, parsed)
    kept: list[Measured[RowT]]
    too_long: list[RowProblem]
    kept, too_long = _within(field, tokenizer, parsed.rows, longest.tokens)
    dropped = sorted([*parsed.duplicates, *too_long], key=lambda problem: problem.line)
    note({"dropped": [asdict(problem) for problem in dropped], "lengths": _histogram(kept)})
    if len(too_long) > max_too_long * len(parsed.rows):
        most, raised = (
            (f"{longest.tokens} tokens", f"raise training.maxLength of stage {longest.stage}, ")
            if longest.stage
            else (f"the {longest.tokens} tokens that the model takes", "")
        )
        raise BadDataError(
            f"{field}: {len(too_long)} of {len(parsed.rows)} rows are longer than {most}, the first in line "
            f"{too_long[0].line}; at most the share {float(max_too_long):g} may be left out",
            f"{raised}shorten the rows, or raise data.maxTooLong",
        )
    return kept, len(dropped)


def _refuse_bad(field: str, parsed: Parsed[RowT]) -> None:
    if not parsed.bad and not parsed.rows:
        raise BadDataError(f"{field} has no rows", "write one JSON object a line")
    if parsed.bad:
        hint = "mend or remove these rows; data/report.json on the volume lists all of them"
        raise _bad_rows(field, parsed.bad, hint)


def _bad_rows(field: str, bad: Sequence[RowProblem], hint: str) -> BadDataError:
    shown = "; ".join(f"line {p.line}: {p.reason}" for p in bad[:SHOWN_PROBLEMS])
    more = len(bad) - SHOWN_PROBLEMS
    rest = f"; and {more} more" if more > 0 else ""
    return BadDataError(f"{field}: {len(bad)} bad rows: {shown}{rest}", hint)


def _within(
    field: str, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Labelled[RowT]], longest: int
) -> tuple[list[Measured[RowT]], list[RowProblem]]:
    """Rows of at most ``longest`` tokens, and the others."""
    kept: list[Measured[RowT]] = []
    too_long: list[RowProblem] = []
    refused: list[RowProblem] = []
    hint = ""
    for row in rows:
        try:
            examples = examples_of(tokenizer, row.row)
        except UserError as error:
            refused.append(RowProblem(row.line, str(error)))
            hint = hint or error.hint or "mend or remove these rows"
            continue
        lengths = [len(one["input_ids"]) for one in examples]
        if max(lengths) <= longest:
            learned = sum(map(completion_tokens, examples))
            kept.append(Measured(row, sum(lengths), learned, row.group, max(map(answer_tokens, examples))))
        else:
            too_long.append(RowProblem(row.line, f"{max(lengths)} tokens, at most {longest}"))
    if refused:
        raise _bad_rows(field, refused, hint)
    return kept, too_long


def _histogram(rows: Sequence[Measured[RowT]], buckets: int = 10) -> dict[str, Any]:
    """Token lengths of rows in ``buckets`` equal steps."""
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
