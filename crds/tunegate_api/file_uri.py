"""Convert paths to file:// addresses, and back."""

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

FILE = "file://"


def file_uri(path: Path | str) -> str:
    """Return the address of a path, which may be relative. White space, control characters and the characters
    ``%``, ``?`` and ``#`` are percent-encoded; other characters remain readable."""
    return FILE + "".join(map(_quoted, os.fspath(path)))


def file_path(uri: str) -> Path:
    """Return the path of a file:// address."""
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix(FILE))))


def _quoted(char: str) -> str:
    is_plain = char.isprintable() and not char.isspace() and char not in "%?#"
    return char if is_plain else quote_from_bytes(os.fsencode(char), safe="")
