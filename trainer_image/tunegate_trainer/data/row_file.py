"""Rows in a temporary file, so that a million rows need little memory."""

import os
import tempfile
import weakref
from array import array
from pathlib import Path
from typing import BinaryIO, Generic

from tunegate_trainer.tokens.rows import RowT

_BUFFER = 1 << 20
"""Number of bytes that are written at a time."""


class RowFile(Generic[RowT]):
    """Rows or pairs in a file that is removed when this object is. A row is decoded each time it is read."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - open until the end
        weakref.finalize(self, self._file.close)
        self._unwritten = bytearray()
        self._starts = array("q", [0])
        self._kind: type[RowT] | None = None

    def __len__(self) -> int:
        return len(self._starts) - 1

    def add(self, row: RowT) -> int:
        """Store a row, and return its number."""
        self._kind = type(row)
        text = row.model_dump_json(exclude_defaults=True).encode()
        self._unwritten += text
        self._starts.append(self._starts[-1] + len(text))
        if len(self._unwritten) >= _BUFFER:
            self._flush()
        return len(self) - 1

    def __getitem__(self, number: int) -> RowT:
        if self._kind is None:
            raise IndexError(number)
        return self._kind.model_validate_json(self._read(number))

    def _read(self, number: int) -> bytes:
        if self._unwritten:
            self._flush()
        start, end = self._starts[number], self._starts[number + 1]
        text = os.pread(self._file.fileno(), end - start, start)
        if len(text) != end - start:
            raise OSError("the temporary file of rows is shorter than what was written")
        return text

    def _flush(self) -> None:
        rest = memoryview(bytes(self._unwritten))
        while rest:  # one call may write only a part
            rest = rest[self._file.write(rest) :]
        self._unwritten.clear()
