"""Training rows as tokens, in the order in which they are trained on."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import PreTrainedTokenizerBase

from tunegate_trainer.errors import BadDataError
from tunegate_trainer.model import example_tokens
from tunegate_trainer.rows import Row

IGNORED = -100
"""The label of a token that carries no loss."""


def tokenize_rows(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int
) -> list[dict[str, Any]]:
    """``input_ids`` and ``labels`` of each row; only the completion and the end of its turn carry loss.

    Raises :class:`BadDataError` naming the rows longer than ``max_length`` tokens: nothing is cut silently.
    """
    examples = []
    too_long = []
    for row in rows:
        prompt, completion = example_tokens(tokenizer, row.prompt, row.completion)
        if len(prompt) + len(completion) > max_length:
            too_long.append(row.id)
        examples.append({"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion})
    if too_long:
        raise BadDataError(
            f"{len(too_long)} rows are longer than maxLength {max_length}: {', '.join(too_long[:5])}",
            "raise training.maxLength, or shorten the rows",
        )
    return examples


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
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    *,
    max_length: int,
    steps: int,
    batch_size: int,
    seed: int,
) -> Dataset:
    """The examples of all steps in order, ``batch_size`` for each."""
    examples = tokenize_rows(tokenizer, rows, max_length)
    order = training_order(len(examples), steps * batch_size, seed)
    return Dataset.from_list(examples).select(order)
