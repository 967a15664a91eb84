"""Rows and pairs as tokens, in the order in which they are trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import PreTrainedTokenizerBase

from tunegate_trainer.errors import BadDataError
from tunegate_trainer.likelihood import Example, example
from tunegate_trainer.model import answered_tokens, example_tokens
from tunegate_trainer.rows import Pair, Row


def tokenize_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int) -> list[Example]:
    """The example of each row; answers and the ends of their turns carry loss, of a chat all of them.

    Raises :class:`BadDataError` naming the rows longer than ``max_length`` tokens: nothing is cut silently.
    """
    examples = [_row_example(tokenizer, row) for row in rows]
    _refuse_longer([(row.id, one) for row, one in zip(rows, examples, strict=True)], max_length)
    return examples


def _row_example(tokenizer: PreTrainedTokenizerBase, row: Row) -> Example:
    made = example(*example_tokens(tokenizer, row.prompt, row.completion))
    for i in answered_tokens(tokenizer, row.prompt, row.unlearned):
        made["labels"][i] = made["input_ids"][i]
    return made


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], max_length: int
) -> list[tuple[Example, Example]]:
    """The examples of the chosen and the rejected answer of each pair.

    Raises :class:`BadDataError` naming the pairs with more than ``max_length`` tokens in one of them.
    """
    examples = [
        (
            example(*example_tokens(tokenizer, pair.prompt, pair.chosen)),
            example(*example_tokens(tokenizer, pair.prompt, pair.rejected)),
        )
        for pair in pairs
    ]
    _refuse_longer(
        [(pair.id, one) for pair, both in zip(pairs, examples, strict=True) for one in both], max_length
    )
    return examples


def _refuse_longer(examples: Sequence[tuple[str, Example]], max_length: int) -> None:
    too_long = list(dict.fromkeys(id for id, one in examples if len(one["input_ids"]) > max_length))
    if too_long:
        raise BadDataError(
            f"{len(too_long)} rows are longer than maxLength {max_length}: {', '.join(too_long[:5])}",
            "raise training.maxLength, or shorten the rows",
        )


def preference_example(chosen: Example, rejected: Example, reference: tuple[float, float]) -> dict[str, Any]:
    """A pair as one packed example of two, with the reference's log-probability of each answer."""
    return {
        "input_ids": chosen["input_ids"] + rejected["input_ids"],
        "labels": chosen["labels"] + rejected["labels"],
        "seq_lengths": [len(chosen["input_ids"]), len(rejected["input_ids"])],
        "reference": list(reference),
    }


def training_order(rows: int, count: int, seed: int) -> list[int]:
    """Row numbers in training order: shuffled pass after shuffled pass, ``count`` in all.

    A pure function, so that a resumed run sees the same rows. Passes follow each other without a gap, so
    every optimizer step has its full batch.
    """
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < count:
        order += torch.randperm(rows, generator=generator).tolist()
    return order[:count]


def training_dataset(
    examples: Sequence[Mapping[str, Any]], *, steps: int, batch_size: int, seed: int
) -> Dataset:
    """The examples of all steps in order, ``batch_size`` for each."""
    order = training_order(len(examples), steps * batch_size, seed)
    return Dataset.from_list(list(examples)).select(order)
