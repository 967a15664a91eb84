"""What is held out stays out of training: groups joined, chats masked, and the proof."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunegate_trainer.data.parse import RowT, prompt_text
from tunegate_trainer.data.split import find_overlaps, join_groups, normalize, text_key
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.tokens.rows import Pair, Row


def prompts_of(rows: Sequence[Measured[RowT]]) -> list[str]:
    """The prompts of rows or pairs, to be compared."""
    return [normalize(prompt_text(measured.labelled.row.prompt)) for measured in rows]


def joined(
    rows: Sequence[Measured[Row]], pairs: Sequence[Measured[Pair]]
) -> tuple[list[Measured[Row]], list[Measured[Pair]]]:
    """Return rows and pairs with groups that share no prompt: those that did are one group."""
    before = [row.group for row in rows] + [pair.group for pair in pairs]
    after = join_groups(list(zip(before, prompts_of(rows) + prompts_of(pairs), strict=True)))
    of_rows = [replace(row, group=group) for row, group in zip(rows, after[: len(rows)], strict=True)]
    of_pairs = [replace(pair, group=group) for pair, group in zip(pairs, after[len(rows) :], strict=True)]
    return of_rows, of_pairs


def without_held_out_turns(
    rows: Sequence[Measured[Row]], held: Collection[str]
) -> tuple[list[Measured[Row]], list[int]]:
    """Return the rows to train on, without the answers in their chats to prompts whose :func:`text_key` is in
    ``held``, and how many answers each row lost.

    A chat may begin as another one that is held out: what it was asked there must not be learned.
    """
    masked = [_without_turns(measured, held) for measured in rows]
    answers = [
        len(after.labelled.row.unlearned) - len(before.labelled.row.unlearned)
        for before, after in zip(rows, masked, strict=True)
    ]
    return masked, answers


def _without_turns(measured: Measured[Row], held: Collection[str]) -> Measured[Row]:
    row = measured.labelled.row
    turns = [
        i
        for i in _answers(row)
        if i not in row.unlearned and text_key(normalize(prompt_text(row.prompt[:i]))) in held
    ]
    if not turns:
        return measured
    unlearned = sorted([*row.unlearned, *turns])
    labelled = replace(measured.labelled, row=row.model_copy(update={"unlearned": unlearned}))
    return replace(measured, labelled=labelled)


def learned_prompts(rows: Sequence[Measured[RowT]]) -> list[str]:
    """All that the answers which rows or pairs teach were asked."""
    return [prompt for measured in rows for prompt in answered_prompts(measured)]


def answered_prompts(measured: Measured[Any]) -> list[str]:
    """The normalized prompts that training on a row or pair teaches to answer: its own, and in the chat of a
    row what comes before each answer that is learned."""
    row: Row | Pair = measured.labelled.row
    turns = [i for i in _answers(row) if i not in row.unlearned] if isinstance(row, Row) else []
    return [normalize(prompt_text(prompt)) for prompt in (row.prompt, *(row.prompt[:i] for i in turns))]


def _answers(row: Row) -> list[int]:
    return [i for i, message in enumerate(row.prompt) if message.role == "assistant"]


def prove_apart(sides: Mapping[str, list[str]]) -> None:
    """Show that nothing is on two sides. An overlap is a bug of ours."""
    overlaps = find_overlaps(dict(sides))
    if overlaps:
        raise AssertionError(f"the split is not disjoint: {overlaps[:3]}")
