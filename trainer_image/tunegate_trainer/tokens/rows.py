"""The forms of a row and of a pair after validation, and of the files that hold them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunegate_api.judging.golden import Message, ToolCall
from tunegate_api.meta import ApiModel
from tunegate_trainer.process.files import sha256_file, write_atomic

PAIRS_PREFIX = "preference-"
"""Before the side, in the name of a file of pairs."""
PREFERENCE = "preference_accuracy"
"""The task metric that is measured on pairs."""


class Row(ApiModel):
    """One labelled example: a chat up to the turn to answer, and the answer."""

    id: str
    prompt: list[Message]
    """Ends with the turn of a user, or of a tool."""
    completion: str
    reasoning: str | None = None
    """What was thought before the answer, where the row says it."""
    tool_calls: list[ToolCall] | None = None
    """The tools that the answer calls."""
    tools: list[dict[str, Any]] | None = None
    """Functions that the model may call, in OpenAI's form."""
    unlearned: list[int] = []
    """Turns of the prompt, counted from 0, whose answer is not learned: what they answer is held out, or the
    row gives them no weight."""

    @property
    def answer(self) -> Message:
        """The turn that answers the prompt."""
        return Message(
            role="assistant",
            content=self.completion,
            reasoning_content=self.reasoning,
            tool_calls=self.tool_calls,
        )


class Pair(ApiModel):
    """One preference: a chat up to the turn to answer, the better answer and the worse one."""

    id: str
    prompt: list[Message]
    """Ends with a user turn."""
    chosen: str
    rejected: str


def said(text: str) -> Message:
    """An answer without more than its text."""
    return Message(role="assistant", content=text)


def write_rows(path: Path, rows: Sequence[Row | Pair]) -> str:
    """Write JSON Lines atomically. Returns the file's sha256."""
    write_atomic(path, "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows))
    return sha256_file(path)


def read_rows(path: Path) -> list[Row]:
    """Read rows that :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Row.model_validate_json(line) for line in file]


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs that :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Pair.model_validate_json(line) for line in file]
