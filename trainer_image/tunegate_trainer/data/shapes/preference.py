"""The shapes prompt/chosen/rejected and chosen/rejected chats of preference pairs.

In the first one, the prompt is text, or a chat that ends with a user turn. Chosen and rejected are texts, or
lists of one assistant turn. In the second one, chosen and rejected are chats that include the prompt, as in
UltraFeedback (https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized) and in TRL's format with
an implicit prompt (https://huggingface.co/docs/trl/dataset_formats#preference).
"""

from tunegate_api.messages import Message
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.fields import BadRowError, is_absent, refuse_fields, text_field
from tunegate_trainer.data.shapes.openai_chat import CHAT_FIELDS
from tunegate_trainer.data.shapes.shape import Fields, Shape, first_turn, has_prompt, kto_label, system_turn
from tunegate_trainer.data.turns import read_turn, read_turns
from tunegate_trainer.tokens.rows import Pair


def _matches(fields: Fields, columns: Columns) -> bool:
    return has_prompt(fields, columns) or not fields.keys().isdisjoint(_answers(columns))


def _read(fields: Fields, columns: Columns) -> Pair:
    if kto_label(fields, columns) is not None and fields.keys().isdisjoint(_answers(columns)):
        raise BadRowError(
            "the row has the format of KTO, {prompt, completion, label}, which is not supported: "
            "a pair needs a chosen and a rejected answer to the same prompt"
        )
    refuse_chat_fields(fields)
    prompt = read_prompt(fields, columns.prompt or "prompt")
    system = system_turn(fields, columns, prompt)
    return make_pair([*system, *prompt], *(read_answer(fields, name) for name in _answers(columns)))


def _answers(columns: Columns) -> tuple[str, str]:
    return columns.chosen or "chosen", columns.rejected or "rejected"


def _matches_chats(fields: Fields, columns: Columns) -> bool:
    return any(first_turn(fields, name).get("role") in ("system", "user") for name in _answers(columns))


def _read_chats(fields: Fields, columns: Columns) -> Pair:
    """Read a pair whose prompt is all turns but the last one of ``chosen``, which ``rejected`` has, too."""
    refuse_chat_fields(fields)
    names = _answers(columns)
    chats = {name: read_turns(fields, name) for name in names}
    for name, turns in chats.items():
        if turns[-1].role != "assistant":
            raise BadRowError(f"{name} must end with an assistant turn, which is the answer")
    prompt, other = (chats[name][:-1] for name in names)
    if prompt != other:
        chosen, rejected = names
        raise BadRowError(
            f"{chosen} and {rejected} must have the same turns, which are the prompt, except for the last one"
        )
    if prompt[-1].role != "user":
        raise BadRowError(
            f"the turn before the answer must be a user turn, but it is a {prompt[-1].role} turn"
        )
    _check_prompt(fields, columns.prompt or "prompt", prompt)
    system = system_turn(fields, columns, prompt)
    return make_pair([*system, *prompt], *(read_answer({name: fields[name][-1:]}, name) for name in names))


def _check_prompt(fields: Fields, name: str, turns: list[Message]) -> None:
    """Raise an error if a pair of chats has a prompt, too, and it is not a part of their turns."""
    if is_absent(fields, name):
        return
    if isinstance(fields[name], list):
        given = read_turns(fields, name)
        is_part = given == turns[: len(given)]
    else:
        is_part = text_field(fields, name).split() in [turn.content.split() for turn in turns]
    if not is_part:
        raise BadRowError(f"{name} is none of the turns that chosen and rejected begin with")


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
CHATS = Shape("chosen/rejected chats", _matches_chats, _read_chats)
