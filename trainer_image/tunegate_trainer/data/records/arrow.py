"""Arrow files in the IPC file format or stream format. The library ``datasets`` writes the latter."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]

from tunegate_trainer.data.records.record import NOT_UTF8, Record, RecordPlace, UnreadableFileError

NAME = "Arrow"
ENDINGS: tuple[str, ...] = (".arrow",)
BATCH = 1000
"""Number of rows that are converted to Python objects at once."""

_FILE, _STREAM = b"ARROW1", b"\xff\xff\xff\xff"


def matches(ending: str, head: bytes) -> bool:
    return ending in ENDINGS or head.startswith((_FILE, _STREAM))


def read(path: Path, file: str) -> Iterator[Record]:
    with unreadable_arrow(), pyarrow.memory_map(str(path)) as source:
        is_file = source.read(len(_FILE)) == _FILE
        source.seek(0)
        yield from records_of(_file_batches(source) if is_file else pyarrow.ipc.open_stream(source), file)


def _file_batches(source: Any) -> Iterator[Any]:
    reader = pyarrow.ipc.open_file(source)
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


@contextmanager
def unreadable_arrow() -> Iterator[None]:
    """Turn the errors of pyarrow for damaged files into :class:`UnreadableFileError`."""
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None):  # an error of the disk
            raise
        raise UnreadableFileError(str(error).splitlines()[0]) from error


def records_of(batches: Iterable[Any], file: str) -> Iterator[Record]:
    """Return the rows of Arrow record batches as records."""
    number = 0
    for batch in batches:
        nested = [column.name for column in batch.schema if pyarrow.types.is_nested(column.type)]
        for start in range(0, batch.num_rows, BATCH):
            for fields in _rows(batch.slice(start, BATCH)):
                number += 1
                place = RecordPlace(number, "row", file)
                if isinstance(fields, str):
                    yield Record(place, None, fields)
                    continue
                for name in nested:
                    fields[name] = _without_nulls(fields[name])
                yield Record(place, fields)


def _rows(batch: Any) -> list[dict[str, Any] | str]:
    """Return the rows of a batch. In place of a row that Python cannot represent, return why it cannot."""
    try:
        rows: list[dict[str, Any] | str] = batch.to_pylist(maps_as_pydicts="lossy")
    except (UnicodeDecodeError, OverflowError) as error:
        if batch.num_rows > 1:
            return [row for i in range(batch.num_rows) for row in _rows(batch.slice(i, 1))]
        times = [i for i, field in enumerate(batch.schema) if pyarrow.types.is_temporal(field.type)]
        if isinstance(error, OverflowError) and times:  # such as a date after the year 9999
            return _rows(_with_text(batch, times))
        return [NOT_UTF8 if isinstance(error, UnicodeDecodeError) else f"the row has a value with {error}"]
    return rows


def _with_text(batch: Any, columns: Iterable[int]) -> Any:
    """Return a batch with the values of some columns as text."""
    for i in columns:
        batch = batch.set_column(i, batch.schema.field(i).name, batch.column(i).cast(pyarrow.string()))
    return batch


def _without_nulls(value: Any) -> Any:
    """Remove the fields of nested objects that are null. All objects in an Arrow column have the same fields,
    so a field that an object does not have is null."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
