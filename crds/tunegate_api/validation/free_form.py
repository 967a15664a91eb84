"""Check free-form values. The API server does not check free-form values, because CEL cannot access them."""

import math
import re
from collections.abc import Callable, Mapping

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.finetunejob import ModelSource, SchemaSource
from tunegate_api.validation.json_schema import schema_faults
from tunegate_api.validation.partial import Part

MAX_ARGUMENT = 256
"""Maximum length of a string argument of a chat template, in characters."""
_ARGUMENT = re.compile("[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NOT_ARGUMENTS = frozenset(
    (
        *("add_generation_prompt", "bos_token", "continue_final_message", "eos_token", "messages", "tools"),
        *("and", "else", "false", "if", "in", "is", "none", "not", "or", "true", "False", "None", "True"),
    )
)


def _json_schema(source: Part) -> None:
    """Refuse an invalid JSON schema."""
    schema = source.get("inline")
    for path, fault in schema_faults(schema) if schema is not None else ():
        source.refuse(fault, "inline", *path)


def _chat_template_args(source: Part) -> None:
    """Refuse invalid arguments of a chat template."""
    given = source.get("chatTemplateArgs")
    for name, value in given.items() if isinstance(given, dict) else ():
        at = ("chatTemplateArgs", str(name))
        if not _ARGUMENT.fullmatch(str(name)):
            source.refuse("is not an argument name: use letters, digits and _, and no digit first", *at)
        elif name in _NOT_ARGUMENTS:
            source.refuse("is set for each chat, or is a keyword of the template language: leave it out", *at)
        elif not isinstance(value, str | bool | int | float) or value in (math.inf, -math.inf):
            source.refuse("must be text, a number, true or false", *at)
        elif isinstance(value, str) and len(value) > MAX_ARGUMENT:
            source.refuse(f"has {len(value)} characters: must have at most {MAX_ARGUMENT}", *at)


FREE_FORM_CHECKS: Mapping[type[ApiModel], Callable[[Part], None]] = {
    SchemaSource: _json_schema,
    ModelSource: _chat_template_args,
}
"""Maps each type with free-form values to the check of these values."""
