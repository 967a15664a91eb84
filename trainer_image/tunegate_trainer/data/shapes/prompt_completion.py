"""The shape prompt/completion: {prompt, completion}, both text. ``reasoning_content`` and ``system`` are
optional."""

from tunegate_api.messages import Message
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.fields import BadRowError, refuse_fields, text_field
from tunegate_trainer.data.shapes.openai_chat import CHAT_FIELDS
from tunegate_trainer.data.shapes.shape import Fields, Shape, has_prompt, kto_label, system_turn
from tunegate_trainer.tokens.rows import Row


def _matches(fields: Fields, columns: Columns) -> bool:
    return has_prompt(fields, columns) or (columns.completion or "completion") in fields


def _read(fields: Fields, columns: Columns) -> Row:
    named = columns.prompt is not None or columns.completion is not None
    if not named and kto_label(fields, columns) is False:
        raise BadRowError(
            "label is false: in the format of KTO, the completion is then one to avoid, but SFT would train "
            "on it; remove these rows, or set columns.completion if label has another meaning"
        )
    refuse_fields(fields, *CHAT_FIELDS)
    asked = Message(role="user", content=text_field(fields, columns.prompt or "prompt"))
    completion = text_field(fields, columns.completion or "completion")
    reasoning = fields.get("reasoning_content") and text_field(fields, "reasoning_content")
    prompt = [*system_turn(fields, columns, []), asked]
    return Row(id="", prompt=prompt, completion=completion, reasoning=reasoning or None)


SHAPE = Shape("prompt/completion", _matches, _read)
