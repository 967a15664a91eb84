"""Keep the answers and faults of a server on the volume, so that a restarted pod sends no request again.

Each line of the file is one answer or fault, with the key of its request: a digest of the server, the model
and everything that is sent. Lines are only appended. A line that was cut off by a crash is ignored.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from tunegate_api.meta import StatusModel
from tunegate_trainer.data.excerpts import masked_text, one_line
from tunegate_trainer.graders.server.faults import Fault

MAX_REASON = 100
"""Maximum length of a reason that is kept, in characters."""
Label = bool | str
"""What a server says about an output. A judge says whether it is good, or complies with a request; a
guardrail gives a rating."""


@dataclass(frozen=True)
class ServerAnswer:
    """The answer of a server about an output."""

    label: Label
    reason: str = ""
    """Why, see :func:`shown_reason`."""


def shown_reason(text: str) -> str:
    """Return the reason of a server on one line, masked and truncated, because it may quote the output."""
    return one_line(masked_text(text))[:MAX_REASON]


class _JournalLine(StatusModel):
    """A line of the file: either an answer, or a fault."""

    key: str
    label: Label | None = None
    reason: str = ""
    fault: Fault | None = None


class Journal:
    """The file with the answers and faults. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, ServerAnswer] = {}
        """The answers by the key of their request."""
        self.faults: Counter[Fault] = Counter()
        """The number of faults of each kind, also of earlier attempts."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        for line in content.splitlines():
            self._recall(line)
        self._file = path.open("ab")
        if content and not content.endswith(b"\n"):
            self._file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _recall(self, text: bytes) -> None:
        try:
            line = _JournalLine.model_validate_json(text)
        except ValidationError:
            return
        if line.fault is not None:
            self.faults[line.fault] += 1
        elif line.label is not None:
            self.answers[line.key] = ServerAnswer(line.label, line.reason)

    def add_answer(self, key: str, answer: ServerAnswer) -> None:
        self.answers[key] = answer
        self._append(_JournalLine(key=key, label=answer.label, reason=answer.reason))

    def add_fault(self, key: str, fault: Fault) -> None:
        self.faults[fault] += 1
        self._append(_JournalLine(key=key, fault=fault))

    def _append(self, line: _JournalLine) -> None:
        text = json.dumps(line.model_dump(mode="json", exclude_none=True), ensure_ascii=False)
        self._file.write(f"{text}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())
