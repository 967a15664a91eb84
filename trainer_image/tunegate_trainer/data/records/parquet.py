"""Parquet files."""

from collections.abc import Iterator
from pathlib import Path

from pyarrow import parquet  # type: ignore[import-untyped]

from tunegate_trainer.data.records.arrow import BATCH, records_of, unreadable_arrow
from tunegate_trainer.data.records.record import Record

NAME = "Parquet"
ENDINGS: tuple[str, ...] = (".parquet",)


def matches(ending: str, head: bytes) -> bool:
    return ending in ENDINGS or head.startswith(b"PAR1")


def read(path: Path, file: str) -> Iterator[Record]:
    with unreadable_arrow(), parquet.ParquetFile(path) as source:
        yield from records_of(source.iter_batches(batch_size=BATCH), file)
