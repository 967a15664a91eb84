"""Tokenized examples in an Arrow file, which readers map into memory instead of loading it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from tunegate_trainer.process.files import atomic_file
from tunegate_trainer.tokens.examples import Example, ExamplePair
from tunegate_trainer.tokens.lazy_sequence import LazySequence

SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
"""The columns of the file, which has the streaming format of Arrow IPC, as files of the datasets library."""


class ExampleFile(LazySequence[Example]):
    """The examples in a file. An example is read from the mapped file when it is accessed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_stream(mapped) as reader:
            self._batches = list(reader)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)], dtype=np.int64)
        """The index of each record batch's first example. The last entry is the number of all examples."""

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __reduce__(self) -> tuple[type["ExampleFile"], tuple[Path]]:
        return ExampleFile, (self.path,)  # by its path, because the mapped content would be copied

    def item(self, index: int) -> Example:
        (batch,) = self.batches([index])
        return Example(input_ids=batch["input_ids"][0].as_py(), labels=batch["labels"][0].as_py())

    def batches(self, indices: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the examples at ``indices``, in this order.

        Consecutive examples from one record batch of the file are one batch. So only as much of the file is
        copied at a time as was written at a time.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        owners = np.searchsorted(self._starts, wanted, side="right") - 1
        changes = np.flatnonzero(np.diff(owners)) + 1
        for start, end in pairwise([0, *changes.tolist(), len(wanted)]):
            if start < end:
                owner = owners[start]
                yield self._batches[owner].take(pa.array(wanted[start:end] - self._starts[owner]))

    def first_from(self, token: int) -> tuple[int, int] | None:
        """Return the index of the first example with a token id of at least ``token``, and this id. Return
        None if there is no such example."""
        for start, batch in zip(self._starts, self._batches, strict=False):  # the last start has no batch
            lists = batch["input_ids"]
            found = np.flatnonzero(lists.flatten().to_numpy() >= token)
            if len(found):
                owner = pc.list_parent_indices(lists)[found[0]].as_py()
                return int(start) + owner, lists.flatten()[found[0]].as_py()
        return None


@dataclass(frozen=True)
class PairFile(LazySequence[ExamplePair]):
    """The pairs in a file of examples: the example of each chosen answer, and then that of the rejected
    one. Raises ValueError if an answer has no pair."""

    examples: ExampleFile

    def __post_init__(self) -> None:
        if len(self.examples) % 2:
            raise ValueError(f"{self.examples.path}: {len(self.examples)} examples are no pairs")

    def __len__(self) -> int:
        return len(self.examples) // 2

    def item(self, index: int) -> ExamplePair:
        return self.examples[2 * index], self.examples[2 * index + 1]


def to_batch(examples: Iterable[Example]) -> pa.RecordBatch:
    """Return the examples in the form that :func:`example_writer` writes."""
    return pa.RecordBatch.from_pylist([dict(one) for one in examples], schema=SCHEMA)


@contextmanager
def example_writer(path: Path) -> Iterator[pa.ipc.RecordBatchStreamWriter]:
    """Write a file of examples atomically: the file appears when this block ends without an error."""
    with atomic_file(path) as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        yield writer
