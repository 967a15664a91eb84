"""Usable rows and pairs for tests of data checks, without a tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunegate_api.judging.golden import Message
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.parse import Labelled
from tunegate_trainer.data.records.record import Place
from tunegate_trainer.data.row_file import RowFile
from tunegate_trainer.data.split import text_key
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.tokens.rows import Pair, Row

_ROWS: RowFile[Row] = RowFile()
_PAIRS: RowFile[Pair] = RowFile()


def usable_rows(*rows: Mapping[str, Any] | Row, pairs: Sequence[Mapping[str, str]] = ()) -> UsableRows:
    """Return usable rows with the lines 1, 2 and so on.

    A row is a prompt with a completion, and a pair a prompt with a chosen and a rejected answer. A row may
    have its number of ``tokens``.
    """
    made = [row if isinstance(row, Row) else row_of(**row) for row in rows]
    lengths = [1 if isinstance(row, Row) else row.get("tokens", 1) for row in rows]
    measured = [_measured(i, row, n) for i, (row, n) in enumerate(zip(made, lengths, strict=True), start=1)]
    return UsableRows(
        rows=measured,
        pairs=[_measured(i, pair_of(**pair), 1) for i, pair in enumerate(pairs, start=1)],
        groups_before=len(rows) + len(pairs),
        near_duplicates=find_near_duplicates([]),
    )


def answered(*completions: str) -> UsableRows:
    """Return rows with these completions, and different prompts."""
    return usable_rows(*({"prompt": f"order {i}", "completion": text} for i, text in enumerate(completions)))


def prompted(*prompts: str) -> UsableRows:
    """Return rows with these prompts, and short completions."""
    return usable_rows(*({"prompt": prompt, "completion": "yes"} for prompt in prompts))


def row_of(*, prompt: str, completion: str, tokens: int = 1) -> Row:
    del tokens
    return Row(id="", prompt=[Message(role="user", content=prompt)], completion=completion)


def pair_of(*, prompt: str, chosen: str, rejected: str) -> Pair:
    return Pair(id="", prompt=[Message(role="user", content=prompt)], chosen=chosen, rejected=rejected)


def chat_of(*turns: tuple[str, str], unlearned: Sequence[int] = ()) -> Row:
    """Return a chat of roles and contents. The last turn is the completion."""
    prompt = [Message.model_validate({"role": role, "content": content}) for role, content in turns[:-1]]
    return Row(id="", prompt=prompt, completion=turns[-1][1], unlearned=list(unlearned))


def _measured(line: int, row: Any, answer: int) -> Measured[Any]:
    stored: RowFile[Any] = _PAIRS if isinstance(row, Pair) else _ROWS
    key = text_key(row.prompt[-1].content)
    has_answers = any(turn.role == "assistant" for turn in row.prompt)
    labelled = Labelled(Place(line), key, key, has_answers, stored.add(row), stored)
    return Measured(labelled, answer + 1, answer, group=key, answer=answer, position=0)
