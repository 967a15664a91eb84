"""Usable rows and pairs as data checks read them, without a tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from support.records import records_of
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.checks.finding import CheckContext
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.parse import ParsedRows, parse_pairs, parse_rows
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import Pair, Row, RowT

JsonRow = Mapping[str, Any]

_NOTHING: Any = None
NO_CONTEXT = CheckContext(request=_NOTHING, tokenizer=_NOTHING, golden={})
"""The context of checks that read nothing but rows."""


def usable_rows(rows: Sequence[JsonRow] = (), pairs: Sequence[JsonRow] = ()) -> UsableRows:
    """Return rows and pairs, given as JSON objects. The first of each is in line 1."""
    return usable_of(measured_rows(*rows), measured_pairs(*pairs))


def usable_of(of_rows: Sequence[UsableRow[Row]], of_pairs: Sequence[UsableRow[Pair]]) -> UsableRows:
    """Return rows and pairs as checks read them, with their near-duplicates."""
    groups = len({one.group for one in (*of_rows, *of_pairs)})
    return UsableRows(of_rows, of_pairs, groups, find_near_duplicates(Documents(of_rows, of_pairs)))


def answered(*completions: str) -> UsableRows:
    """Return rows with these completions, and different prompts."""
    return usable_rows([{"prompt": f"order {i}", "completion": text} for i, text in enumerate(completions)])


def prompted(*prompts: str) -> UsableRows:
    """Return rows with these prompts, and short completions."""
    return usable_rows([{"prompt": prompt, "completion": "yes"} for prompt in prompts])


def chat_of(*turns: tuple[str, str], unlearned: Sequence[int] = ()) -> JsonRow:
    """Return a chat of roles and contents. The last turn is the completion."""
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
    for turn in unlearned:
        messages[turn]["weight"] = 0
    return {"messages": messages}


def measured_rows(*rows: JsonRow) -> list[UsableRow[Row]]:
    return _measured(parse_rows(records_of(*rows), Columns(), None), examples=1)


def measured_pairs(*pairs: JsonRow) -> list[UsableRow[Pair]]:
    return _measured(parse_pairs(records_of(*pairs), Columns(), None, source="preference"), examples=2)


def usable_pairs(*pairs: JsonRow) -> list[UsableRow[Pair]]:
    """Return the pairs without bad ones."""
    return _with_lengths(parse_pairs(records_of(*pairs), Columns(), None, source="preference"), examples=2)


def _measured(parsed: ParsedRows[RowT], examples: int) -> list[UsableRow[RowT]]:
    assert not parsed.bad, parsed.bad
    return _with_lengths(parsed, examples)


def _with_lengths(parsed: ParsedRows[RowT], examples: int) -> list[UsableRow[RowT]]:
    """Return the rows with arbitrary lengths in tokens."""
    return [UsableRow(row, 8, 4, row.group, 4, examples * i) for i, row in enumerate(parsed.rows)]
