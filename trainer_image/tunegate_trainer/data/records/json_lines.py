"""JSON Lines: a JSON object on each line. Blank lines are skipped."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tunegate_trainer.data.fields import kind
from tunegate_trainer.data.records.record import MAX_ROW_SIZE, NOT_UTF8, TOO_LARGE, Record, RecordPlace

NAME = "JSON Lines"
ENDINGS: tuple[str, ...] = (".jsonl", ".ndjson", ".json")


def matches(ending: str, head: bytes) -> bool:
    """Return True: files whose format is not recognized are read as JSON Lines."""
    del ending, head
    return True


def read(path: Path, file: str) -> Iterator[Record]:
    with path.open("rb") as stream:
        yield from read_lines(stream, file)


def read_lines(stream: BinaryIO, file: str = "") -> Iterator[Record]:
    """Read an open file, see :meth:`Format.read`."""
    number = 0
    while line := stream.readline(MAX_ROW_SIZE + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)  # Windows editors write it
        place = RecordPlace(number, "line", file)
        if len(line) > MAX_ROW_SIZE:
            _skip_line(stream, line)
            yield Record(place, None, TOO_LARGE)
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            yield Record(place, None, NOT_UTF8)
            continue
        if text and not text.isspace():
            yield _record(place, text)


def _skip_line(stream: BinaryIO, line: bytes) -> None:
    """Read to the end of the line that begins with ``line``."""
    while line and not line.endswith(b"\n"):
        line = stream.readline(MAX_ROW_SIZE)


def _record(place: RecordPlace, text: str) -> Record:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        return Record(place, None, f"the row is not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:  # valid JSON beyond Python's limits
        return Record(place, None, f"the row cannot be parsed: {error}")
    return record_of(place, fields)


def record_of(place: RecordPlace, value: object) -> Record:
    """Return the record of a JSON value, which must be an object. That of a string has its text."""
    if not isinstance(value, dict):
        text = value if isinstance(value, str) else None
        return Record(place, None, f"a row must be a JSON object, but it is {kind(value)}", text)
    return Record(place, value)
