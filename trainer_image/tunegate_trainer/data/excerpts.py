"""Excerpts of rows for findings, in which secrets and personal data are masked."""

import re
from collections.abc import Mapping
from typing import Any

from tunegate_api.meta import shorten
from tunegate_trainer.data.personal_values import personal_values
from tunegate_trainer.data.secret_values import secret_values

_READ = 1_000
"""Number of characters from which an excerpt is made."""
_MARGIN = 16_000
"""Number of characters beyond them that are read, because a value to mask is recognized only as a whole. The
longest such values are private keys."""
_MIN_LENGTH = 4
"""A shorter value is not masked, because it also occurs in other words."""
_LONG = 16
"""A value of this length is no part of other words by chance."""
_MIN_TEXT = 6
"""The length of the shortest text with a value to mask, an e-mail address. Names in reports are shorter."""


def start_of(text: str, most: int = 60, *, keep_lines: bool = False) -> str:
    """Return the first ``most`` characters of a text, masked. White space is replaced by single spaces unless
    ``keep_lines`` is set."""
    found = masked_text(text[: _READ + _MARGIN])  # before lines are joined: a private key has several
    if len(text) > _READ + _MARGIN:
        # The margin may have the beginning of a value.
        found = f"{found[:-_MARGIN]}…"
    return shorten(found if keep_lines else " ".join(found.split()), most)


def end_of(text: str, most: int = 60, *, keep_lines: bool = False) -> str:
    """Return the last ``most`` characters of a text, like :func:`start_of`."""
    found = masked_text(text[-_READ - _MARGIN :])
    if len(text) > _READ + _MARGIN:
        found = f"…{found[_MARGIN:]}"
    found = found if keep_lines else " ".join(found.split())
    return found if len(found) <= most else f"…{found[-most:]}"


def ends_of(text: str, most: int) -> str:
    """Return the first and the last ``most`` characters of a text, masked. Lines are kept."""
    if len(text) <= 2 * (_READ + _MARGIN):
        found = masked_text(text)
        return found if len(found) <= 2 * most else f"{found[:most]}…{found[-most:]}"
    start, end = start_of(text, most, keep_lines=True), end_of(text, most, keep_lines=True)
    return f"{start}{end[1:]}"  # with one ellipsis


def masked_text(text: str) -> str:
    """Return a text in which all secrets and personal data that are found are masked."""
    if len(text) < _MIN_TEXT:
        return text
    values = {value for _, value in (*secret_values(text), *personal_values(text))}
    for value in sorted(values, key=lambda value: (-len(value), value)):
        if len(value) >= _MIN_LENGTH:
            text = _replaced(text, value, masked(value))
    return text


def _replaced(text: str, value: str, shown: str) -> str:
    """Replace a value. A short one is not replaced within longer words, unless it occurs only there."""
    if len(value) < _LONG:
        found, count = re.subn(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])", lambda _: shown, text)
        if count:
            return found
    return text.replace(value, shown)


def one_line(text: str) -> str:
    """Return a text on one line, without control characters and halves of surrogate pairs."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def masked_content(content: Any) -> Any:
    """Return the content of a JSON file with all its texts masked."""
    if isinstance(content, str):
        return masked_text(content)
    if isinstance(content, Mapping):
        return {masked_content(key): masked_content(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [masked_content(value) for value in content]
    return content


def masked(value: str) -> str:
    """Return the first characters of a value that must not be shown, at most four."""
    return f"{value[: min(4, len(value) // 3)]}…"
