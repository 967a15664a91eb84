"""OpenAI's chat format: {messages: [{role, content}, ...]}, with ``tools``, ``weight`` and ``system``.

See https://developers.openai.com/api/docs/guides/supervised-fine-tuning. The field ``conversations``, which
many data sets use, is read as well.
"""

from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.fields import BadRowError, refuse_fields
from tunegate_trainer.data.shapes.shape import Fields, Shape, chat_field, first_turn, system_turn
from tunegate_trainer.data.turns import read_tools, read_turns
from tunegate_trainer.tokens.rows import Row

CHAT_FIELDS = ("tools", "tool_calls", "functions", "function_call", "weight")
"""Fields of OpenAI's format that only rows with a chat may have."""


def _matches(fields: Fields, columns: Columns) -> bool:
    name = chat_field(fields, columns)
    if name is None or "from" in first_turn(fields, name):
        return False
    return name != "conversations" or "role" in first_turn(fields, name)


def _read(fields: Fields, columns: Columns) -> Row:
    return read_chat(fields, columns, chat_field(fields, columns) or "messages")


def read_chat(fields: Fields, columns: Columns, name: str) -> Row:
    """Read the row whose turns are in the field ``name``. The last turn is the answer to train on."""
    refuse_fields(fields, "functions", "function_call", "reasoning_content", "weight")
    *prompt, answer = read_turns(fields, name)
    if answer.role != "assistant":
        raise BadRowError(f"{name} must end with an assistant turn, which is the answer to train on")
    weightless = [i for i, turn in enumerate(fields[name]) if turn.get("weight") == 0]
    if len(prompt) in weightless:
        raise BadRowError(
            f"{name}[{len(prompt)}].weight is 0, but the last turn is the answer to train on: remove the "
            "weight or the row"
        )
    system = system_turn(fields, columns, prompt)
    return Row(
        id="",
        prompt=[*system, *prompt],
        completion=answer.content,
        reasoning=answer.reasoning_content,
        tool_calls=answer.tool_calls,
        tools=read_tools(fields),
        unlearned=[i + len(system) for i in weightless],
    )


SHAPE = Shape("OpenAI chat", _matches, _read)
