"""Build the dataset with the examples of all steps in training order."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]

from tunegate_trainer.tokens.example_file import ExampleFile
from tunegate_trainer.tokens.examples import Example


def preference_example(chosen: Example, rejected: Example, reference: tuple[float, float]) -> dict[str, Any]:
    """Return a pair as one packed example, with the reference log-probability of each answer."""
    return {
        "input_ids": chosen["input_ids"] + rejected["input_ids"],
        "labels": chosen["labels"] + rejected["labels"],
        "seq_lengths": [len(chosen["input_ids"]), len(rejected["input_ids"])],
        "reference": list(reference),
    }


def training_order(rows: int, count: int, seed: int) -> list[int]:
    """Return ``count`` row numbers in training order: one shuffled epoch after another.

    The order depends only on the arguments, so a resumed run uses the same rows. A batch may span two epochs,
    so that every optimizer step has a full batch.
    """
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < count:
        order += torch.randperm(rows, generator=generator).tolist()
    return order[:count]


def training_dataset(
    examples: Sequence[Mapping[str, Any]], *, steps: int, batch_size: int, seed: int
) -> Dataset:
    """Return the examples of all steps in order, ``batch_size`` for each step. Examples in a file are mapped
    into memory, not loaded."""
    order = training_order(len(examples), steps * batch_size, seed)
    if isinstance(examples, ExampleFile):
        return Dataset.from_file(str(examples.path)).select(order)
    return Dataset.from_list(list(examples)).select(order)
