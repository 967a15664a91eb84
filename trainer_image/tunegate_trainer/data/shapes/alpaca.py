"""Alpaca's format: {instruction, input, output}, with ``system`` and ``history`` as in LLaMA-Factory.

The prompt is the instruction and, on the next line, the input. ``history`` is a list of earlier [instruction,
output] pairs. Preference data has ``chosen`` and ``rejected`` instead of ``output``.
See https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.
"""

from tunegate_api.messages import Message
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.fields import BadRowError, is_absent, kind, refuse_fields, text_field
from tunegate_trainer.data.shapes.openai_chat import CHAT_FIELDS
from tunegate_trainer.data.shapes.preference import make_pair, read_answer, refuse_chat_fields
from tunegate_trainer.data.shapes.shape import Fields, Shape, has_prompt, system_turn
from tunegate_trainer.tokens.rows import Pair, Row


def _matches(fields: Fields, columns: Columns) -> bool:
    return "instruction" in fields and columns.prompt is None and not has_prompt(fields, columns)


def _read(fields: Fields, columns: Columns) -> Row:
    refuse_fields(fields, *CHAT_FIELDS, "reasoning_content")
    completion = text_field(fields, columns.completion or "output")
    return Row(id="", prompt=prompt_of(fields, columns), completion=completion)


def _read_pair(fields: Fields, columns: Columns) -> Pair:
    refuse_chat_fields(fields)
    chosen = read_answer(fields, columns.chosen or "chosen")
    rejected = read_answer(fields, columns.rejected or "rejected")
    return make_pair(prompt_of(fields, columns), chosen, rejected)


def prompt_of(fields: Fields, columns: Columns) -> list[Message]:
    """Read the prompt of a row or pair: its system turn, history, instruction and input."""
    text = text_field(fields, "instruction")
    if not is_absent(fields, "input"):
        text += "\n" + text_field(fields, "input")
    return [*system_turn(fields, columns, []), *_history(fields), Message(role="user", content=text)]


def _history(fields: Fields) -> list[Message]:
    if is_absent(fields, "history"):
        return []
    history = fields["history"]
    if not isinstance(history, list):
        raise BadRowError(f"history must be a list of [instruction, output], but it is {kind(history)}")
    turns: list[Message] = []
    for i, earlier in enumerate(history):
        if not isinstance(earlier, list) or len(earlier) != 2:
            raise BadRowError(f"history[{i}] must be [instruction, output], but it is {kind(earlier)}")
        texts = dict(zip(("instruction", "output"), earlier, strict=True))
        turns += [
            Message(role="user", content=text_field(texts, "instruction", f"history[{i}][0]")),
            Message(role="assistant", content=text_field(texts, "output", f"history[{i}][1]")),
        ]
    return turns


ROWS = Shape("Alpaca", _matches, _read)
PAIRS = Shape("Alpaca preference", _matches, _read_pair)
