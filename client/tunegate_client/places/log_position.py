"""Remember which lines of a pod's log were printed, so that a broken connection neither repeats nor loses a
line."""

import re
from datetime import datetime

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")

_Time = tuple[float, int]
"""Seconds since the epoch, and nanoseconds."""


class LogPosition:
    """The position after the last printed line of a log whose lines begin with their times.

    A container runtime gives all lines of one read the same time, and a server resumes a log at a whole
    second. Therefore, the lines that it repeats are those before the last printed time, and as many lines of
    that time as were printed."""

    def __init__(self) -> None:
        self.since = ""
        """The time of the last printed line, from which the log is requested again; empty before the first
        line."""
        self._last: _Time | None = None
        self._printed = 0
        """The number of printed lines with the time ``_last``."""
        self._to_skip: int | None = None
        """The number of lines with the time ``_last`` that the server still repeats; None if it repeats no
        more."""

    def connect(self) -> None:
        """Note that the log is requested from ``since`` on."""
        self._to_skip = None if self._last is None else self._printed

    def new_text(self, line: str) -> str | None:
        """Return the text of a line without its time, or None if the line was printed before the log was
        requested again. A line without a time, such as an error of the kubelet, is returned unchanged."""
        text_of_time, _, text = line.partition(" ")
        time = _parse_time(text_of_time)
        if time is None:
            return line
        if self._to_skip is not None and self._last is not None:
            if time < self._last:
                return None
            if time == self._last and self._to_skip:
                self._to_skip -= 1
                return None
            self._to_skip = None
        self._printed = self._printed + 1 if time == self._last else 1
        self._last, self.since = time, text_of_time
        return text


def _parse_time(text: str) -> _Time | None:
    """Parse a time in the format RFC 3339; None if the text is not a time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    seconds, fraction, zone = found.groups()
    try:
        return datetime.fromisoformat(seconds + zone).timestamp(), int((fraction or "0").ljust(9, "0"))
    except ValueError:  # for example, the month 13
        return None
