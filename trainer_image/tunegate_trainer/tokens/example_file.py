"""Tokenized examples in an Arrow file, which readers map into memory instead of loading it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from tunegate_trainer.process.files import atomic_file
from tunegate_trainer.tokens.examples import Example

SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
"""The columns of the file, which has the streaming format of Arrow IPC, as files of the datasets library."""
_BATCH = 1000
"""Number of examples that are copied at a time."""


class ExampleFile(Sequence[Example]):
    """The examples in a file. An example is read from the mapped file when it is accessed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_stream(mapped) as reader:
            self._table = reader.read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = self._table.slice(index % len(self), 1)
        return Example(input_ids=row.column("input_ids")[0].as_py(), labels=row.column("labels")[0].as_py())

    def __iter__(self) -> Iterator[Example]:
        for batch in self._table.to_batches(max_chunksize=_BATCH):
            yield from batch.to_pylist()

    def batches(self, indices: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the examples at ``indices``, in this order, a thousand at a time."""
        for at in range(0, len(indices), _BATCH):
            yield from self._table.take(np.asarray(indices[at : at + _BATCH], dtype=np.int64)).to_batches()


def to_batch(examples: Iterable[Example]) -> pa.RecordBatch:
    """Return the examples in the form that :func:`example_writer` writes."""
    return pa.RecordBatch.from_pylist([dict(one) for one in examples], schema=SCHEMA)


@contextmanager
def example_writer(path: Path) -> Iterator[pa.ipc.RecordBatchStreamWriter]:
    """Write a file of examples atomically: the file appears when this block ends without an error."""
    with atomic_file(path) as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        yield writer
