"""Write the generated parts of docs/api: fields from the types, reasons and phases from the enums.

In a page, two comments enclose a generated part, and this script writes the lines between the comments::

    <!-- generated: fields EvalGateSpec -->
    <!-- end -->

The first comment contains ``fields`` and a type, ``members`` and an enum, or ``variables``. ``--check``
writes nothing, and fails if a page is out of date.
"""

import ast
import difflib
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tunegate_api.cases import golden
from tunegate_api.meta import DECIMAL_PATTERN, DNS_NAME_PATTERN, NAME_PATTERN, SHA256_PATTERN, StatusModel
from tunegate_api.v1alpha2 import (
    environment,
    evalgate,
    evalgate_status,
    finetunejob,
    finetunejob_status,
    reasons,
)
from tunegate_api.v1alpha2.fields import URI_PATTERN
from tunegate_api.v1alpha2.pods import QUANTITY_PATTERN
from tunegate_api.v1alpha2.sets import CASE_ID_PATTERN
from tunegate_api.v1alpha2.shares import INT_OR_STRING, PERCENT_PATTERN
from tunegate_api.verdict import outcomes

PAGES = Path(__file__).parents[1] / "docs" / "api"
MODULES = (evalgate, evalgate_status, finetunejob, finetunejob_status, reasons, golden, outcomes)
BLOCK = re.compile(r"(<!-- generated: (?P<what>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)

FORMS = {
    CASE_ID_PATTERN: "id",
    PERCENT_PATTERN: "percentage",
    DECIMAL_PATTERN: "number in quotes",
    DNS_NAME_PATTERN: "name",
    NAME_PATTERN: "name",
    QUANTITY_PATTERN: "quantity",
    SHA256_PATTERN: "SHA-256",
    URI_PATTERN: "address",
}
"""The name of each pattern in the type column."""

Schema = dict[str, Any]


def rewrite(page: str) -> str:
    """Return the page with its generated parts rewritten."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{_generate(match['what'])}\n\n{match[3]}", page)


def _generate(what: str) -> str:
    kind, _, name = what.partition(" ")
    makers: dict[str, Callable[[str], str]] = {
        "fields": lambda name: fields_tables(_named(name)),
        "members": lambda name: members_table(_named(name)),
        "variables": lambda _: variables_table(),
    }
    return makers[kind](name)


def _named(name: str) -> Any:
    return next(vars(module)[name] for module in MODULES if name in vars(module))


def fields_tables(model: type[BaseModel]) -> str:
    """Return a table of the fields of ``model``, followed by a table with a heading for each type that the
    fields refer to.

    A status has no column for defaults, because only the operator writes it.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions: dict[str, Schema] = schema.pop("$defs", {})
    tables = _Tables(definitions, with_defaults=not issubclass(model, StatusModel))
    objects = {name for name, node in definitions.items() if "properties" in node}
    parts = [tables.table(schema)]
    queue, done = _references(schema, objects), set[str]()
    while queue:
        name = queue.pop(0)
        if name in done:
            continue
        done.add(name)
        node = definitions[name]
        parts += [f"### {name}", _text(node.get("description", "")), tables.table(node)]
        queue = [*_references(node, objects), *queue]
    return "\n\n".join(part for part in parts if part)


def _references(node: Any, objects: set[str]) -> list[str]:
    """Return the object types to which a schema node refers directly, in order."""
    if isinstance(node, dict):
        own = [node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else []
        own += [n for key, value in node.items() if key != "$ref" for n in _references(value, objects)]
    else:
        own = [n for value in node for n in _references(value, objects)] if isinstance(node, list) else []
    return [name for name in own if name in objects]


class _Tables:
    """Builds the tables of one model and of the types that it refers to."""

    def __init__(self, definitions: dict[str, Schema], *, with_defaults: bool) -> None:
        self._definitions = definitions
        self._with_defaults = with_defaults

    def table(self, node: Schema) -> str:
        """Return the table of the fields of one type."""
        columns = ["Field", "Type", *(["Default"] if self._with_defaults else []), "Description"]
        rows = [
            self._row(name, field, name in node.get("required", []))
            for name, field in node.get("properties", {}).items()
        ]
        return "\n".join(_line(cells) for cells in (columns, ["---"] * len(columns), *rows))

    def _row(self, name: str, field: Schema, is_required: bool) -> list[str]:
        referred = self._definitions.get(field.get("$ref", "").removeprefix("#/$defs/"), {})
        text, default_text = _split_default(
            _text(field.get("description") or referred.get("description", ""))
        )
        default = "**required**" if is_required else default_text or _default(field)
        examples = [f" Example: `{_flow(value)}`." for value in field.get("examples", [])[:1]]
        type = _type(field, self._definitions)
        return [f"`{name}`", type, *([default] if self._with_defaults else []), text + "".join(examples)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _split_default(text: str) -> tuple[str, str]:
    """Split a description into the text without its default, and the default: ``Defaults to X.`` or ``If
    omitted, X.``"""
    match = re.search(r" ?(?:Defaults to|If omitted,) (?P<default>.*?)[.](?= [A-Z]|$)", text)
    if match is None:
        return text, ""
    return (text[: match.start()] + text[match.end() :]).strip(), match["default"]


def _default(field: Schema) -> str:
    value = field.get("default")
    if value in (None, [], {}, ""):
        return "none"
    if isinstance(value, dict):
        return "its fields' defaults"
    return f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    """Return a value in YAML flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    if isinstance(value, str):
        return json.dumps(value) if re.fullmatch(r"[-+.\deE]*\d[-+.\deE]*|", value) else value
    return json.dumps(value)


def _type(field: Schema, definitions: dict[str, Schema]) -> str:
    """Return the type of a field as Markdown, with a link if the type has a table."""
    either: list[Schema] = field.get("anyOf") or field.get("oneOf") or []
    options = [option for option in either if option != {"type": "null"}]
    if options:
        around = {key: field[key] for key in ("pattern", "minimum", "maximum") if key in field}
        return " or ".join(_type(option | around, definitions) for option in options)
    if "$ref" in field:
        name = field["$ref"].removeprefix("#/$defs/")
        node = definitions[name]
        return f"[{name}](#{name.lower()})" if "properties" in node else _type(node, definitions)
    if "const" in field or "enum" in field:
        return " or ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    return _plain_type(field, definitions)


def _plain_type(field: Schema, definitions: dict[str, Schema]) -> str:
    kind = field.get("type")
    if INT_OR_STRING in field:
        return "integer or percentage"
    if kind == "array":
        return f"list of {_type(field['items'], definitions)}"
    if kind == "object":
        values = field.get("additionalProperties", True)
        return f"map to {_type(values, definitions)}" if isinstance(values, dict) else "free form"
    if kind == "integer" and "minimum" in field:
        return (
            f"integer, {field['minimum']} to {field['maximum']}"
            if "maximum" in field
            else f"integer from {field['minimum']}"
        )
    if kind == "string":
        return "time" if field.get("format") == "date-time" else FORMS.get(field.get("pattern", ""), "text")
    return {"integer": "integer", "boolean": "`true` or `false`", "number": "number"}.get(
        str(kind), "any value"
    )


def members_table(enum: type[StrEnum]) -> str:
    """Return a table of the values of an enum, with the docstring of each."""
    docs = member_docs(enum)
    rows = [[f"`{member.value}`", docs[member.name]] for member in enum]
    return "\n".join(_line(cells) for cells in (["Value", "Description"], ["---", "---"], *rows))


def member_docs(enum: type[StrEnum]) -> dict[str, str]:
    """Return the docstring of each member of an enum, by the member's name. Members without a docstring are
    left out; :func:`members_table` then raises KeyError."""
    body = ast.parse(inspect.getsource(enum)).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - getsource of a class has one class
    docs = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            docs[statement.targets[0].id] = _text(str(after.value.value))
    return docs


def variables_table() -> str:
    """Return a table of the environment variables that a user may set on pods."""
    rows = [
        [_text(group.purpose), ", ".join(group.pods), ", ".join(f"`{name}`" for name in group.names)]
        for group in (*environment.ALLOWED, environment.OWN)
    ]
    return "\n".join(_line(cells) for cells in (["Purpose", "Pods", "Variables"], ["---"] * 3, *rows))


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: Sequence[str], folder: Path = PAGES) -> int:
    """Rewrite the pages of ``folder``. With ``--check``, print how the pages differ from the types instead,
    and return 1 if they differ."""
    stale = False
    for path in sorted(folder.glob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = rewrite(old)
        if "--check" not in arguments:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            stale = True
            lines = difflib.unified_diff(
                old.splitlines(keepends=True),
                new.splitlines(keepends=True),
                f"{path.name} (committed)",
                path.name,
            )
            print("".join(lines), end="")
    if stale:
        print("The types changed: run `python tools/api_docs.py`.", file=sys.stderr)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
