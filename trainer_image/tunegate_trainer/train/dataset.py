"""Build the dataset with the examples of all steps in training order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]

from tunegate_trainer.tokens.example_file import ExampleFile, PairFile
from tunegate_trainer.tokens.examples import Example, ExamplePair
from tunegate_trainer.tokens.lazy_sequence import LazySequence


def preference_example(chosen: Example, rejected: Example, reference: tuple[float, float]) -> dict[str, Any]:
    """Return a pair as one packed example, with the reference log-probability of each answer."""
    return {
        "input_ids": chosen["input_ids"] + rejected["input_ids"],
        "labels": chosen["labels"] + rejected["labels"],
        "seq_lengths": [len(chosen["input_ids"]), len(rejected["input_ids"])],
        "reference": list(reference),
    }


@dataclass(frozen=True)
class PairExamples(LazySequence[Mapping[str, Any]]):
    """Pairs with the reference log-probabilities of their answers, packed when they are accessed."""

    pairs: Sequence[ExamplePair]
    reference: Sequence[tuple[float, float]]

    def __len__(self) -> int:
        return len(self.pairs)

    def item(self, index: int) -> Mapping[str, Any]:
        return preference_example(*self.pairs[index], self.reference[index])

    def columns(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """Return the examples whose indices are the column ``index`` of a batch, in columns."""
        examples = [self[index] for index in batch["index"]]
        return {name: [one[name] for one in examples] for name in examples[0]}


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
    if isinstance(examples, PairExamples) and isinstance(examples.pairs, PairFile):
        return Dataset.from_dict({"index": order}).with_transform(examples.columns)
    return Dataset.from_list(list(examples)).select(order)
