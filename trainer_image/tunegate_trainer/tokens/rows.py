"""Validated rows and pairs, and the JSON Lines files that hold them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from tunegate_api.messages import Message, ToolCall
from tunegate_api.meta import ApiModel
from tunegate_trainer.process.files import atomic_file, sha256_file

PREFERENCE = "PreferenceAccuracy"
"""The name of the task metric on pairs."""


class Row(ApiModel):
    """One labelled example: a prompt, which may be a chat of several turns, and the answer."""

    id: str
    prompt: list[Message]
    """The turns before the answer. The last one is a user turn or a tool turn."""
    completion: str
    reasoning: str | None = None
    """The reasoning before the answer. None if the row has no reasoning in a separate field."""
    tool_calls: list[ToolCall] | None = None
    """The tool calls of the answer."""
    tools: list[dict[str, Any]] | None = None
    """Functions that the model may call, in OpenAI's format."""
    unlearned: list[int] = Field(default_factory=list)  # a default of [] would be copied for each row
    """Indices of assistant turns in ``prompt`` that are not trained on, because the turns before them are a
    held-out prompt, or because the row gives them weight 0."""

    @property
    def answer(self) -> Message:
        """The assistant turn that answers the prompt."""
        return Message(
            role="assistant",
            content=self.completion,
            reasoning_content=self.reasoning,
            tool_calls=self.tool_calls,
        )


class Pair(ApiModel):
    """One preference: a prompt with a chosen and a rejected answer. The prompt may be a chat."""

    id: str
    prompt: list[Message]
    """The turns before the answers. The last one is a user turn."""
    chosen: str
    rejected: str


RowT = TypeVar("RowT", Row, Pair)


def text_answer(text: str) -> Message:
    """Return an assistant turn that has only text."""
    return Message(role="assistant", content=text)


def write_rows(path: Path, rows: Iterable[Row | Pair]) -> str:
    """Write rows or pairs as JSON Lines, atomically. Returns the SHA-256 of the file."""
    with atomic_file(path) as file:
        file.writelines(row.model_dump_json(exclude_defaults=True).encode() + b"\n" for row in rows)
    return sha256_file(path)


def read_rows(path: Path) -> list[Row]:
    """Read rows that :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Row.model_validate_json(line) for line in file]


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs that :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Pair.model_validate_json(line) for line in file]
