"""The records of a data source, and the interface of file formats."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

MAX_ROW_SIZE = 64 << 20
"""Maximum size of a row in bytes or characters. Without a limit, a large file without line breaks would be
read into memory as one row."""
NOT_UTF8 = "the row is not UTF-8: save the file as UTF-8"
TOO_LARGE = f"the row is larger than {MAX_ROW_SIZE >> 20} MiB"
_UNDECODED = re.compile("[\udc80-\udcff]")

Unit = Literal["line", "row"]


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where a record is in its source."""

    number: int
    """The line on which the record begins or, in formats without lines, the row. Counted from 1."""
    unit: Unit = "line"
    file: str = ""
    """The path of the record's file in its folder. Empty if the source is a single file."""
    source: str = ""
    """The name of the source. Empty for the rows of use Train, and for production inputs."""

    def __str__(self) -> str:
        place = f"{self.file} {self.unit} {self.number}".lstrip()
        return f"{place} of {self.source}" if self.source else place

    @property
    def order(self) -> tuple[str, str, int]:
        """The key by which places are sorted: by source, by file, and then by number."""
        return self.source, self.file, self.number

    @property
    def entry(self) -> dict[str, Any]:
        """The keys for this place in data/report.json."""
        source = {"source": self.source} if self.source else {}
        return {**source, **({"file": self.file} if self.file else {}), self.unit: self.number}


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a source: its fields, or the reason why it cannot be read."""

    place: RecordPlace
    fields: dict[str, Any] | None
    problem: str = ""
    """The reason. Empty if ``fields`` is not None."""
    text: str | None = None
    """The text of a row of JSON that is a string instead of an object. Only inputs may be such rows."""


class UnreadableFileError(ValueError):
    """A file is not in its format, or a part of it cannot be read. Its text is the reason."""


class Format(Protocol):
    """The interface of a file format. Every module in :data:`FORMATS` implements it."""

    NAME: str
    """The name of the format in messages and in data/report.json."""
    ENDINGS: tuple[str, ...]
    """The endings of file names by which the data files of a folder are found, such as ``.csv``."""

    def matches(self, ending: str, head: bytes) -> bool:
        """Return whether a file has this format. ``ending`` is that of its name in lower case, and ``head``
        are its first bytes."""
        ...

    def read(self, path: Path, file: str) -> Iterator[Record]:
        """Read a file as a stream. ``file`` is the file's name in places, see :class:`Place`.

        A row that cannot be read becomes a record with a problem. Raises :class:`UnreadableFileError` if the
        remaining rows cannot be read.
        """
        ...


def has_undecoded_bytes(text: str) -> bool:
    """Return whether a text that was decoded with ``surrogateescape`` has bytes that are not UTF-8."""
    return not text.isascii() and _UNDECODED.search(text) is not None
