"""CSV: text with a header line, with the delimiter comma, semicolon or tab."""

import csv
from collections.abc import Iterator
from pathlib import Path

from tunegate_trainer.data.records.record import (
    MAX_ROW_SIZE,
    NOT_UTF8,
    Record,
    RecordPlace,
    UnreadableFileError,
    has_undecoded_bytes,
)

NAME = "CSV"
ENDINGS: tuple[str, ...] = (".csv", ".tsv")

_DELIMITERS = (",", ";", "\t")


def matches(ending: str, head: bytes) -> bool:
    del head
    return ending in ENDINGS


def read(path: Path, file: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_ROW_SIZE)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text.readline(MAX_ROW_SIZE))
        text.seek(0)
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        names = _header(reader)
        while True:
            first = reader.line_num + 1
            place = RecordPlace(first, "line", file)
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(place, None, f"the row is not CSV: {error}")
                # A stray quote takes all lines up to the next quote, which may be thousands of rows.
                for number in range(first + 1, reader.line_num + 1):
                    problem = (
                        f"the row in line {first} is not CSV; if it ends before this line, check its quotes"
                    )
                    yield Record(RecordPlace(number, "line", file), None, problem)
                continue
            if cells:  # a blank line has no cells
                yield _record(place, names, cells)


def _delimiter(line: str) -> str:
    """Return the delimiter that gives the header line the most columns."""
    return max(_DELIMITERS, key=lambda delimiter: len(next(csv.reader([line], delimiter=delimiter), ())))


def _header(rows: Iterator[list[str]]) -> list[str]:
    try:
        names = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise UnreadableFileError(f"the header line is not CSV: {error}") from None
    if any(map(has_undecoded_bytes, names)):
        raise UnreadableFileError("the header line is not UTF-8: save the file as UTF-8")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UnreadableFileError(f"the header line repeats a column: {', '.join(sorted(repeated))}")
    return names


def _record(place: RecordPlace, names: list[str], cells: list[str]) -> Record:
    if any(map(has_undecoded_bytes, cells)):
        return Record(place, None, NOT_UTF8)
    if len(cells) != len(names):
        return Record(
            place, None, f"the row has {len(cells)} fields, but the header line has {len(names)} columns"
        )
    return Record(place, dict(zip(names, cells, strict=True)))
