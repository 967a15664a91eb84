"""Parse inputs: prompts without answers. Every bad row is listed with its place and the reason."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tunegate_api.messages import Message
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.fields import BadRowError, excerpt, text_field
from tunegate_trainer.data.parse import RowProblem
from tunegate_trainer.data.records.record import Record, RecordPlace
from tunegate_trainer.data.shapes import ROW_SHAPES, alpaca, recognize, sharegpt
from tunegate_trainer.data.shapes.shape import Fields, chat_field, system_turn
from tunegate_trainer.data.turns import read_tools, read_turns


@dataclass(frozen=True)
class ParsedInput:
    """A prompt without an answer, and its place."""

    place: RecordPlace
    prompt: list[Message]
    tools: list[dict[str, Any]] | None


def parse_inputs(records: Iterable[Record], columns: Columns) -> Iterator[ParsedInput | RowProblem]:
    """Parse prompts: a string, or a row with a prompt, a chat or an instruction, as training rows have them.
    Answers are ignored. Yields each prompt, or what is wrong with the row."""
    for record in records:
        place, fields = record.place, record.fields
        try:
            if record.text is not None:
                yield ParsedInput(place, [_user_turn({"the row": record.text}, "the row")], None)
            elif fields is None:
                yield RowProblem(place, record.problem)
            else:
                yield _read(place, fields, columns)
        except BadRowError as error:
            yield RowProblem(place, str(error))
        except (RecursionError, TypeError, ValueError) as error:  # raised by libraries for unusual content
            yield RowProblem(place, f"the row cannot be used: {excerpt(f'{type(error).__name__}: {error}')}")


def _read(place: RecordPlace, fields: Fields, columns: Columns) -> ParsedInput:
    shape = recognize(ROW_SHAPES, fields, columns)
    if shape is alpaca.ROWS:
        return ParsedInput(place, alpaca.prompt_of(fields, columns), read_tools(fields))
    if shape is sharegpt.ROWS:
        fields = sharegpt.as_openai_chat(fields, columns)
    prompt = _prompt(fields, columns)
    return ParsedInput(place, [*system_turn(fields, columns, prompt), *prompt], read_tools(fields))


def _prompt(fields: Fields, columns: Columns) -> list[Message]:
    """Read a prompt: a text, or a chat without its last answer, which may be left out."""
    name = columns.prompt or chat_field(fields, columns) or "prompt"
    if name == (columns.prompt or "prompt") and not isinstance(fields.get(name), list):
        return [_user_turn(fields, name)]
    messages = read_turns(fields, name)
    prompt = messages[:-1] if messages[-1].role == "assistant" else messages
    if not prompt or prompt[-1].role not in ("user", "tool"):
        raise BadRowError(f"{name} has no user turn")
    return prompt


def _user_turn(fields: Fields, name: str) -> Message:
    return Message(role="user", content=text_field(fields, name))
