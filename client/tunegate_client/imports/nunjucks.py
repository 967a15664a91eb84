"""Render the subset of Nunjucks that is carried over: plain variables, such as ``{{ name }}``."""

import re
from collections.abc import Mapping
from typing import Any

from tunegate_client.imports.imported import NotCarriedError
from tunegate_client.imports.javascript import text_of

_VARIABLE = re.compile(r"\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*\}\}")  # promptfoo does not render others
_TAG = re.compile(r"\{\{|\{%|\{#")
_RESERVED = {"true", "false", "none", "null", "not", "and", "or", "in", "is", "if", "else", "env"}


def has_template(text: str) -> bool:
    """Whether Nunjucks would change or refuse the text."""
    return _TAG.search(text) is not None


def rendered(template: str, variables: Mapping[str, Any]) -> str:
    """Return the text of a template. Raises :class:`NotCarriedError` for anything but plain variables that
    are texts, numbers or booleans."""
    parts, at = [], 0
    while tag := _TAG.search(template, at):
        variable = _VARIABLE.match(template, tag.start())
        if (
            not variable
            or variable[1] in _RESERVED
            or template[max(tag.start() - 1, at) : tag.start()] == "{"
        ):
            shown = template[tag.start() : tag.start() + 40].splitlines()[0]
            raise NotCarriedError("template", f"only plain variables are supported, not {shown!r}")
        parts += [template[at : tag.start()], _value(variable[1], variables)]
        at = variable.end()
    return "".join([*parts, template[at:]])


def _value(name: str, variables: Mapping[str, Any]) -> str:
    if name not in variables:
        raise NotCarriedError("template", f"the variable {name} has no value")
    value = text_of(variables[name])
    if value is None:
        raise NotCarriedError("template", f"the variable {name} is not a text, a number or a boolean")
    return value
