"""Parquet files."""

from collections.abc import Iterator
from pathlib import Path

from pyarrow import parquet  # type: ignore[import-untyped]

from tunegate_trainer.data.records.arrow import BATCH, records_of, unreadable_arrow
from tunegate_trainer.data.records.record import Record

NAME = "Parquet"
ENDINGS: tuple[str, ...] = (".parquet",)

_BUFFER = 1 << 20
"""Number of bytes of a column to read at once."""


def matches(ending: str, head: bytes) -> bool:
    return ending in ENDINGS or head.startswith(b"PAR1")


def read(path: Path, file: str) -> Iterator[Record]:
    # With these arguments, only parts of a row group are in memory.
    with unreadable_arrow(), parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as source:
        yield from records_of(source.iter_batches(batch_size=BATCH), file)
