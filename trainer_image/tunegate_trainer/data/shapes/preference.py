"""The shape prompt/chosen/rejected of preference pairs.

The prompt is text, or a chat that ends with a user turn. Chosen and rejected are texts, or lists of one
assistant turn.
"""

from tunegate_api.judging.golden import Message
from tunegate_api.v1alpha1.data import Columns
from tunegate_trainer.data.fields import BadRowError, refuse_fields, text_field
from tunegate_trainer.data.shapes.openai_chat import CHAT_FIELDS
from tunegate_trainer.data.shapes.shape import Fields, Shape
from tunegate_trainer.data.turns import read_turn, read_turns
from tunegate_trainer.tokens.rows import Pair


def _matches(fields: Fields, columns: Columns) -> bool:
    names = (columns.prompt or "prompt", columns.chosen or "chosen", columns.rejected or "rejected")
    return not fields.keys().isdisjoint(names)


def _read(fields: Fields, columns: Columns) -> Pair:
    refuse_chat_fields(fields)
    prompt = read_prompt(fields, columns.prompt or "prompt")
    chosen = read_answer(fields, columns.chosen or "chosen")
    return make_pair(prompt, chosen, read_answer(fields, columns.rejected or "rejected"))


def refuse_chat_fields(fields: Fields) -> None:
    """Raise an error if a pair has a field that only rows with a chat may have."""
    refuse_fields(fields, *CHAT_FIELDS, "reasoning_content")


def make_pair(prompt: list[Message], chosen: str, rejected: str) -> Pair:
    """Return a pair with an empty id. Raise an error if its answers are equal."""
    if chosen.split() == rejected.split():
        raise BadRowError("chosen and rejected are the same text, so the pair expresses no preference")
    return Pair(id="", prompt=prompt, chosen=chosen, rejected=rejected)


def read_prompt(fields: Fields, field: str, name: str | None = None) -> list[Message]:
    """Read the prompt of a pair: a string or a chat. Errors call it ``name``, by default like ``field``."""
    if not isinstance(fields.get(field), list):
        return [Message(role="user", content=text_field(fields, field, name))]
    messages = read_turns(fields, field, name)
    if messages[-1].role != "user":
        raise BadRowError(
            f"{name or field} must end with a user turn, because chosen and rejected are replies to it"
        )
    return messages


def read_answer(fields: Fields, name: str) -> str:
    """Read an answer of a pair: a string or a list of one assistant turn."""
    turns = fields.get(name)
    if not isinstance(turns, list):
        return text_field(fields, name)
    if len(turns) != 1 or (answer := read_turn(turns[0], name, 0)).role != "assistant":
        raise BadRowError(f"{name} must be a single assistant turn; put earlier turns into prompt")
    if answer.tool_calls or answer.reasoning_content or turns[0].get("weight", 1) != 1:
        raise BadRowError(f"{name} must be plain text: pairs support no tool calls, reasoning or weights")
    return answer.content


SHAPE = Shape("prompt/chosen/rejected", _matches, _read)
