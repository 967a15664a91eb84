"""OpenAI's format for DPO: {input: {messages}, preferred_output, non_preferred_output}.

Each output is a list of one assistant turn. See
https://developers.openai.com/api/docs/guides/direct-preference-optimization.
"""

from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.fields import BadRowError, kind_of
from tunegate_trainer.data.shapes.preference import make_pair, read_answer, read_prompt, refuse_chat_fields
from tunegate_trainer.data.shapes.shape import Fields, Shape, system_turn
from tunegate_trainer.tokens.rows import Pair

_PREFERRED, _NON_PREFERRED = "preferred_output", "non_preferred_output"


def _matches(fields: Fields, columns: Columns) -> bool:
    del columns
    return _PREFERRED in fields or _NON_PREFERRED in fields


def _read(fields: Fields, columns: Columns) -> Pair:
    given = fields.get("input")
    if not isinstance(given, dict):
        raise BadRowError(f"input must be {{messages}}, but it is {kind_of(fields, 'input')}")
    refuse_chat_fields(given)
    prompt = read_prompt(given, "messages", "input.messages")
    system = system_turn({**fields, **given}, columns, prompt)
    return make_pair([*system, *prompt], read_answer(fields, _PREFERRED), read_answer(fields, _NON_PREFERRED))


SHAPE = Shape("OpenAI DPO", _matches, _read)
