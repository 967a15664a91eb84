"""Parse the rows and pairs of a data source. Every bad row is listed with its place and the reason."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

from tunegate_api.messages import Message, ToolCall
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.excerpts import masked_text
from tunegate_trainer.data.fields import BadRowError, encodable, excerpt, kind_of
from tunegate_trainer.data.records.record import Record, RecordPlace
from tunegate_trainer.data.row_file import RowFile
from tunegate_trainer.data.shapes import PAIR_SHAPES, ROW_SHAPES, recognize
from tunegate_trainer.data.shapes.shape import Shape
from tunegate_trainer.data.split import group_of, normalize, text_key
from tunegate_trainer.tokens.rows import Pair, Row, RowT

MAX_ID_LENGTH = 128
"""Maximum length of a row's id, in characters. Reports contain the ids of held-out rows, and the size of a
report is limited."""


@dataclass(frozen=True)
class RowProblem:
    """A row that is not trained on, and the reason."""

    place: RecordPlace
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"

    @property
    def entry(self) -> dict[str, Any]:
        """This problem in data/report.json. The reason may quote the row, so it is masked."""
        return {**self.place.entry, "reason": masked_text(self.reason)}


def in_order(problems: Iterable[RowProblem]) -> list[RowProblem]:
    """Return problems in the order of their files and rows."""
    return sorted(problems, key=lambda problem: problem.place.order)


@dataclass(frozen=True, slots=True)
class Labelled(Generic[RowT]):
    """A usable row, its place, and its group. All rows of a group are in the same split (train, dev or
    test)."""

    place: RecordPlace
    group: str
    """The group, see :func:`~tunegate_trainer.data.split.group_of`."""
    prompt: str
    """The :func:`~tunegate_trainer.data.split.text_key` of the normalized prompt."""
    has_answers: bool
    """Whether the prompt has assistant turns."""
    number: int
    """The number of the row in ``rows``."""
    rows: RowFile[RowT]
    system: int = 0
    """A hash of the system turn, which equal turns have in common in this process. 0 if there is none."""
    question: str = ""
    """The :attr:`prompt` without its system turn. Empty if there is none."""

    @property
    def row(self) -> RowT:
        """The row. It is read from a file, so read it once and keep it no longer than needed."""
        return self.rows[self.number]


@dataclass(frozen=True)
class ParsedRows(Generic[RowT]):
    """The parsed rows of a source. Every record is in exactly one of the three lists."""

    rows: list[Labelled[RowT]]
    bad: list[RowProblem]
    """Rows that must be corrected before the source can be trained on."""
    duplicates: list[RowProblem]
    """Exact repetitions of earlier rows, which are dropped."""
    shape: str = ""
    """The name of the rows' shape, see :mod:`shapes`. Empty if it was not recognized."""


def parse_rows(
    records: Iterable[Record],
    columns: Columns,
    group_by: str | None,
    folder: Path | None = None,
    mixed: str = "",
) -> ParsedRows[Row]:
    """Parse records of one of the :data:`ROW_SHAPES`. The first row decides which one the source has.

    The rows are kept in a temporary file in ``folder``, by default the system's folder for such files.
    ``mixed`` is the name of a source of use Mix, which places and ids then have.
    """
    reader = _Reader(ROW_SHAPES, columns, "prompt and completion, or messages")
    parser = _Parser(reader, group_by, mixed, is_mix=bool(mixed))
    return parser.parse(records, RowFile(folder))


def parse_pairs(
    records: Iterable[Record],
    columns: Columns,
    group_by: str | None,
    folder: Path | None = None,
    source: str = "",
) -> ParsedRows[Pair]:
    """Parse records of one of the :data:`PAIR_SHAPES`, like :func:`parse_rows`. ``source`` is the name of the
    source, which places then have."""
    reader = _Reader(PAIR_SHAPES, columns, "prompt, chosen and rejected")
    parser = _Parser(reader, group_by, source, is_mix=False)
    return parser.parse(records, RowFile(folder))


class _Reader(Generic[RowT]):
    def __init__(self, shapes: Sequence[Shape[RowT]], columns: Columns, usual_fields: str) -> None:
        self._shapes: Sequence[Shape[RowT]] = shapes
        self._usual_fields = usual_fields
        self.columns = columns
        self.shape: Shape[RowT] | None = None
        """The shape of the first row that has a known shape. None before this row."""

    def read(self, fields: dict[str, Any]) -> RowT:
        """Return the row, with an empty id."""
        if self.shape is None:
            self.shape = recognize(self._shapes, fields, self.columns)
            if self.shape is None:
                raise BadRowError(self._unknown(fields))
        elif not self.shape.matches(fields, self.columns):
            other = recognize(self._shapes, fields, self.columns)
            if other:
                raise BadRowError(
                    f"the row has the shape {other.name}, but the first row has the shape {self.shape.name}"
                )
        return self.shape.read(fields, self.columns)

    def _unknown(self, fields: dict[str, Any]) -> str:
        known: tuple[Shape[Any], ...] = (*ROW_SHAPES, *PAIR_SHAPES)
        elsewhere = recognize(known, fields, self.columns)
        if elsewhere:
            supported = ", ".join(shape.name for shape in self._shapes)
            return f"the row has the shape {elsewhere.name}, but only these are supported here: {supported}"
        return (
            f"a row needs the fields {self._usual_fields}; this row has: "
            f"{', '.join(sorted(fields)) or 'no fields'} (map other field names in columns)"
        )


class _Parser(Generic[RowT]):
    """Parses the records of a source, finds duplicates, and stores all other rows."""

    def __init__(self, reader: _Reader[RowT], group_by: str | None, source: str, *, is_mix: bool) -> None:
        self._reader: _Reader[RowT] = reader
        self._group_by = group_by
        self._source = source
        self._is_mix = is_mix
        self._seen: dict[bytes, RecordPlace] = {}
        self._ids: dict[str, RecordPlace] = {}
        self._parsed: ParsedRows[RowT] = ParsedRows([], [], [])

    def parse(self, records: Iterable[Record], stored: RowFile[RowT]) -> ParsedRows[RowT]:
        for record in records:
            place = replace(record.place, source=self._source) if self._source else record.place
            if record.fields is None:
                self._parsed.bad.append(RowProblem(place, record.problem))
                continue
            try:
                self._add(record.fields, place, stored)
            except BadRowError as error:
                self._parsed.bad.append(RowProblem(place, str(error)))
            except (RecursionError, TypeError, ValueError) as error:  # of libraries, for unusual content
                first_line = f"{type(error).__name__}: {error}".splitlines()[0]
                reason = f"the row cannot be used: {excerpt(first_line)}"
                self._parsed.bad.append(RowProblem(place, reason))
        shape = self._reader.shape
        return replace(self._parsed, shape=shape.name if shape else "")

    def _add(self, fields: dict[str, Any], place: RecordPlace, stored: RowFile[RowT]) -> None:
        reader = self._reader
        of_id = place if self._is_mix else replace(place, source="")
        row = reader.read(fields).model_copy(update={"id": _id(fields, reader.columns, of_id)})
        prompt = normalize(prompt_text(row.prompt))
        group = _group(fields, self._group_by, prompt, required=not self._is_mix)
        content = _digest(row)
        repeated = self._seen.get(content)
        if row.id in self._ids and self._ids[row.id] != repeated:
            raise BadRowError(f"id {row.id} is already used in {self._ids[row.id]}")
        self._ids.setdefault(row.id, place)
        if repeated is not None:
            self._parsed.duplicates.append(RowProblem(place, f"repeats {repeated}"))
            return
        self._seen[content] = place
        has_answers = any(turn.role == "assistant" for turn in row.prompt)
        first = row.prompt[0]
        system = hash(first.content) if first.role == "system" else 0
        question = prompt_key(row.prompt[1:]) if system else ""
        number = stored.add(row)
        self._parsed.rows.append(
            Labelled(place, group, text_key(prompt), has_answers, number, stored, system, question)
        )


def _digest(row: Row | Pair) -> bytes:
    """Return a digest of a row without its id, which needs less memory than the row."""
    return hashlib.blake2b(row.model_dump_json(exclude={"id"}).encode(), digest_size=16).digest()


def prompt_text(prompt: list[Message]) -> str:
    """Return the turns and tool calls of a prompt as one text, for comparisons."""
    return "\n".join(
        part for message in prompt for part in (message.content, *map(_call_text, message.tool_calls or ()))
    )


def has_system(prompt: list[Message]) -> bool:
    """Return whether a prompt starts with a system turn."""
    return prompt[0].role == "system"


def without_system(prompt: list[Message]) -> list[Message]:
    """Return the turns of a prompt after its system turn; all turns if it has none."""
    return prompt[1:] if has_system(prompt) else prompt


def prompt_key(prompt: list[Message]) -> str:
    """Return the :func:`~tunegate_trainer.data.split.text_key` of the normalized prompt."""
    return text_key(normalize(prompt_text(prompt)))


def _call_text(call: ToolCall) -> str:
    return f"{call.function.name} {json.dumps(call.function.arguments, sort_keys=True)}"


def _id(fields: dict[str, Any], columns: Columns, place: RecordPlace) -> str:
    name = columns.id or "id"
    if name not in fields and columns.id is None:
        return str(place).replace(" ", "-")[-MAX_ID_LENGTH:]
    own = _own_id(fields, name)
    return f"{own}-of-{place.source}" if place.source else own  # sources often number their rows from 1


def _own_id(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not str(value).strip():
        raise BadRowError(
            f"{name} must be a non-empty string or an integer, but it is {kind_of(fields, name)}"
        )
    if len(str(value)) > MAX_ID_LENGTH:
        raise BadRowError(f"{name} has {len(str(value))} characters, but may have at most {MAX_ID_LENGTH}")
    return encodable(str(value), name)


def _group(fields: dict[str, Any], group_by: str | None, prompt: str, *, required: bool) -> str:
    """Return the group of a row. Only if ``required`` is false, the field of the group may be missing."""
    value = None if group_by is None else fields.get(group_by)
    if value not in (None, ""):
        if isinstance(value, str | int | float):
            value = _scalar_text(value)
        # Parquet and Arrow have values that JSON does not have, such as dates.
        return group_of(json.dumps(value, sort_keys=True, default=str))
    if group_by is not None and required:
        raise BadRowError(f"the field {group_by}, which heldOut.groupBy names, is missing or empty")
    return group_of(prompt)


def _scalar_text(value: str | float) -> str:
    """Return the same text for the same value in every format: CSV has text only, and integers in a column
    with missing values are often written as ``5.0``."""
    text = str(value)
    if text.lower() in ("true", "false"):
        return text.lower()
    return text.removesuffix(".0") if re.fullmatch(r"-?\d+\.0", text) else text
