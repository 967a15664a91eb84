"""Read the records of a data source as a stream, whatever its file format.

Each format has a module, see :class:`record.Format`. :data:`FORMATS` is the table of formats. To add one,
write a module with ``NAME``, ``ENDINGS``, ``matches`` and ``read``, and add it to the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunegate_trainer.data.records import arrow, delimited, json_array, json_lines, parquet
from tunegate_trainer.data.records.folders import data_files
from tunegate_trainer.data.records.record import Format, Record, UnreadableFileError
from tunegate_trainer.process.errors import BadDataError

FORMATS: tuple[Format, ...] = (parquet, arrow, delimited, json_array, json_lines)
"""All file formats. A file has the first format that matches it."""

_HEAD = 1024
"""Number of bytes by which a file's format is recognized."""
_UNSUPPORTED = {
    b"\x1f\x8b": ("compressed with gzip", "decompress the file"),
    b"\x28\xb5\x2f\xfd": ("compressed with Zstandard", "decompress the file"),
    b"PK\x03\x04": ("a ZIP archive, as Excel files are", "unpack it, or export the table as CSV"),
    b"\xff\xfe": ("UTF-16 text", "save the file as UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "save the file as UTF-8"),
}
"""What a file is whose content begins with these bytes, and what the user can do about it."""


@dataclass(frozen=True)
class Records:
    """The records of a source. Each iteration reads its files from the start."""

    field: str
    """The field of the spec that errors name, such as ``data.sources[invoices]``."""
    format: Format
    files: dict[str, Path]
    """The files in the order in which they are read, by their name in places, see :class:`Place`."""

    def __iter__(self) -> Iterator[Record]:
        for name, path in self.files.items():
            try:
                yield from self.format.read(path, name)
            except UnreadableFileError as error:
                which = name or "the file"
                raise BadDataError(
                    f"{self.field}: {which} cannot be read as {self.format.NAME}: {error}",
                    f"check that {which} is complete, and that the ending of its name is that of its format",
                ) from error


def read_records(path: Path, field: str) -> Records:
    """Return the records of a file, or of a folder with the files of a data set, see :func:`data_files`.

    Errors name ``field``. Raises :class:`BadDataError` if the path has no data files, or files of several
    formats, and during the iteration if a file is damaged. A row that cannot be read does not raise an error:
    its record has a problem.
    """
    if not path.is_dir():
        return Records(field, _format(path, field), {"": path})
    endings = frozenset(ending for one in FORMATS for ending in one.ENDINGS)
    files = data_files(path, field, endings)
    formats = {file: _format(file, field) for file in files}
    names = sorted({one.NAME for one in formats.values()})
    if len(names) > 1:
        raise BadDataError(
            f"{field}: the folder has files of several formats: {', '.join(names)}",
            "leave the files of one format in it, or set uri to one of the files",
        )
    if len(files) == 1:
        return Records(field, formats[files[0]], {"": files[0]})
    return Records(field, formats[files[0]], {file.relative_to(path).as_posix(): file for file in files})


def _format(path: Path, field: str) -> Format:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for start, (what, hint) in _UNSUPPORTED.items():
        if head.startswith(start):
            raise BadDataError(f"{field}: {path.name} is {what}, which is not supported", hint)
    ending = path.suffix.lower()
    return next(one for one in FORMATS if one.matches(ending, head))
