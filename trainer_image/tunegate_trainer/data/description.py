"""Describe the rows of a data set: what kind of answers they have, and what their prompts have in common."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tunegate_api.contract.forecast import AnswerKind, DescribedData, LabelCount
from tunegate_trainer.data.answer_schema import DRAFT, ValueSchema
from tunegate_trainer.data.labels import LabelCounter
from tunegate_trainer.tokens.chat import common_prefix
from tunegate_trainer.tokens.rows import Row

MIN_ROWS_PER_LABEL = 10
"""Labels are described only if they have this number of rows on average, so that each split has most of them
and they can be measured."""
_SHORT_LENGTH = 80
"""Maximum length in characters of an answer that can be compared as a whole."""
_MOST = 0.95
"""Share of the answers that decides their kind."""
_COMMON_LENGTH = 12
"""A shorter text with which all prompts begin or end is a coincidence. Length in characters."""

_LAST_WORD = re.compile(r"\S*\Z")


def describe(rows: Iterable[Row]) -> DescribedData:
    """Describe rows, which are read once. The memory that this needs does not depend on their number."""
    answers, prompts = _Answers(), _Prompts()
    for row in rows:
        answers.add(row)
        prompts.add(row)
    kind = answers.kind()
    return DescribedData(
        rows=answers.rows,
        answers=kind,
        labels=answers.labels() if kind == "Labels" else [],
        json_schema={"$schema": DRAFT, **answers.schema.schema()} if kind == "JSON" else None,
        not_json=answers.rows - answers.json if kind == "JSON" else 0,
        longest_answer=answers.longest,
        longest_prompt=prompts.longest,
        prompt_start=prompts.common_start,
        prompt_end=prompts.common_end,
        system_prompt=prompts.system_prompt,
    )


@dataclass
class _Answers:
    rows: int = 0
    schema: ValueSchema = field(default_factory=ValueSchema)
    json: int = 0
    """The number of answers that are a JSON object or array."""
    longest: int = 0
    _short: int = 0
    _calls: int = 0
    _labels: LabelCounter = field(default_factory=LabelCounter)

    def add(self, row: Row) -> None:
        answer = row.completion.strip()
        is_line = bool(answer) and "\n" not in answer
        self.rows += 1
        self.longest = max(self.longest, len(answer.encode()))
        self._short += is_line and len(answer) <= _SHORT_LENGTH
        self._calls += bool(row.tool_calls)
        self._labels.add(row)
        value = _json_value(answer)
        if value is not None:
            self.json += 1
            self.schema.add(value)

    def kind(self) -> AnswerKind:
        if self._calls > self.rows / 2:
            return "ToolCalls"
        if self.rows and self.json >= _MOST * self.rows:
            return "JSON"
        labels = self._labels.labels()
        if labels and 2 <= len(labels) <= self.rows / MIN_ROWS_PER_LABEL and labels.total() == self.rows:
            return "Labels"
        return "ShortText" if self._short >= _MOST * self.rows else "Text"

    def labels(self) -> list[LabelCount]:
        """Return the labels, the most frequent one first."""
        counts = self._labels.labels() or Counter[str]()
        return [LabelCount(label=label, rows=rows) for label, rows in counts.most_common()]


@dataclass
class _Prompts:
    longest: int = 0
    _rows: int = 0
    _start: str = ""
    _end: str = ""
    """What all prompts end with, from its last character to its first."""
    _system: str = ""
    """The system prompt of the first row that has one."""
    _with_system: int = 0
    """The number of rows with this system prompt."""

    def add(self, row: Row) -> None:
        text = row.prompt[-1].content
        self._rows += 1
        self.longest = max(self.longest, len(text))
        is_first = self._rows == 1
        self._start = text if is_first else common_prefix(self._start, text)
        self._end = text[::-1] if is_first else common_prefix(self._end, text[::-1])
        if row.prompt[0].role == "system":
            self._system = self._system or row.prompt[0].content
            self._with_system += row.prompt[0].content == self._system

    @property
    def common_start(self) -> str:
        """The whole words with which all prompts begin, if there are enough."""
        return self._template(self._start)

    @property
    def common_end(self) -> str:
        """The whole words with which all prompts end, if there are enough."""
        return self._template(self._end)[::-1]

    @property
    def system_prompt(self) -> str | None:
        """The system prompt of most rows."""
        return self._system if self._with_system > self._rows / 2 else None

    def _template(self, common: str) -> str:
        """Return ``common`` without its last word, which may be a part of a word."""
        words = _LAST_WORD.sub("", common)
        return words if self._rows > 1 and len(words.strip()) >= _COMMON_LENGTH else ""


def _json_value(answer: str) -> dict[str, Any] | list[Any] | None:
    """Return the object or array that an answer is in JSON. Return None for another answer."""
    if not answer.startswith(("{", "[")):
        return None
    try:
        value: dict[str, Any] | list[Any] = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return value
