"""JSON: one array of objects, as in many published data sets. It is decoded object by object."""

import codecs
import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from tunegate_trainer.data.records.json_lines import record_of
from tunegate_trainer.data.records.record import (
    MAX_ROW_SIZE,
    NOT_UTF8,
    TOO_LARGE,
    Record,
    RecordPlace,
    UnreadableFileError,
    has_undecoded_bytes,
)

NAME = "JSON array"
ENDINGS: tuple[str, ...] = (".json",)

_BLOCK = 1 << 20
"""Number of characters to read at once."""
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_TOKEN = 16
"""An error closer than this to the end of the text may only mean that the rest of a value is not read yet."""


def matches(ending: str, head: bytes) -> bool:
    is_array = head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    return is_array and ending not in (".jsonl", ".ndjson")


def read(path: Path, file: str) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        text = _UndecodedText(stream)
        text.skip("[")
        if text.token() != "]":
            for number in count(1):
                value, is_utf8 = text.value(number)
                place = RecordPlace(number, "row", file)
                yield record_of(place, value) if is_utf8 else Record(place, None, NOT_UTF8)
                if text.token() == "]":
                    break
                text.skip(",", f" after row {number}")
        text.skip("]")
        if text.token():
            raise UnreadableFileError("there is more text after the end of the array")


class _UndecodedText:
    """The text of a file, of which only the undecoded part is in memory."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder()
        self._text, self._at = "", 0

    def token(self) -> str:
        """Return the next character that is no white space. Returns an empty string at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self, token: str, where: str = "") -> None:
        """Skip a character, which must be the next token."""
        found = self.token()
        if found != token:
            what = repr(found) if found else "the end of the file"
            raise UnreadableFileError(f"expected {token!r}{where}, but found {what}")
        self._at += 1

    def value(self, number: int) -> tuple[Any, bool]:
        """Decode the next value. Return it, and whether its text is UTF-8."""
        self.token()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _LONGEST_TOKEN
                if is_cut:
                    self._check_size(number, len(self._text))
                if not (is_cut and self._more()):
                    raise UnreadableFileError(f"row {number} is not JSON: {error.msg}") from None
            except (ValueError, RecursionError) as error:  # valid JSON beyond Python's limits
                raise UnreadableFileError(f"row {number} cannot be parsed: {error}") from None
            else:
                self._check_size(number, end)
                if end == len(self._text) and self._more():  # it may be the first half of a number
                    continue
                is_utf8 = not has_undecoded_bytes(self._text[self._at : end])
                self._at = end
                return value, is_utf8

    def _check_size(self, number: int, end: int) -> None:
        """Refuse a value that does not end before ``end`` if it is too large."""
        if end - self._at > MAX_ROW_SIZE:
            raise UnreadableFileError(f"row {number}: {TOO_LARGE}")

    def _more(self) -> bool:
        """Read at least as much text as is undecoded, so that the time to decode a long value is linear, but
        little more than the maximum of a value."""
        undecoded = len(self._text) - self._at
        block = self._stream.read(max(_BLOCK, min(undecoded, MAX_ROW_SIZE - undecoded)))
        self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)
