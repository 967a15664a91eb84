"""Convert evaluation data and graders of OpenAI to golden cases, as OpenAI's documentation describes them."""

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunegate_client.imports.imported import Ids, Imported, NotCarriedError, tags_of
from tunegate_client.imports.javascript import load_yaml, read_text

Fields = Mapping[str, Any]
Expectation = dict[str, Any]

_OUTPUT = re.compile(r"\{\{\s*sample\.output_text\s*\}\}")
_TAG = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}|\{\{|\{%")
_ITEM = re.compile(r"item(?:\.[A-Za-z_][A-Za-z0-9_]*)+")
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_REFUSED = {
    "label_model": "asks a model to judge, which is not deterministic",
    "python": "runs code; write a scorer of your own",
    "score_model": "asks a model to judge, which is not deterministic",
}
_SIMILARITIES = {
    "cosine": "compares embeddings of a model",
    "fuzzy_match": "is a similarity of rapidfuzz, and which one is not documented",
}
"""Why metrics of text_similarity are refused. The others depend on how texts are divided into words."""
_MAX_DEPTH = 100
"""Maximum depth of a formula."""


def import_openai(path: Path, data: Path, *, incomplete: bool = False) -> Imported:
    """Convert the rows of ``data``, JSON Lines, with the graders and the prompt of ``path``, JSON or YAML.

    Raises :class:`NotCarriedError` if nothing can be carried over, and OSError, UnicodeDecodeError or
    yaml.YAMLError if a file cannot be read.
    """
    config = load_yaml(read_text(path))
    if not isinstance(config, Mapping):
        raise NotCarriedError("file", "must have testing_criteria or a grader")
    graders = _graders(config)
    template = _template(config)
    found, ids = Imported(), Ids()
    for number, row in enumerate(_rows(data), 1):
        item = row["item"] if isinstance(row.get("item"), Mapping) else row
        case_id = ids.new(str(item.get("id") or ""), f"row-{number}")
        expect, faults = _expectations(graders, item)
        turns = None
        try:
            turns = _turns(template, row, item)
        except NotCarriedError as error:
            faults.append(error)
        case = {
            "id": case_id,
            "tags": tags_of(row.get("metadata")),
            "messages": turns,
            "expect": expect if turns else [],
            "allowEmpty": all(map(_may_pass_empty, expect)),
        }
        found.add(case, faults, incomplete=incomplete)
    return found


def _graders(config: Fields) -> list[Any]:
    if isinstance(config.get("testing_criteria"), list) and config["testing_criteria"]:
        return list(config["testing_criteria"])
    grader = config.get("grader") or config
    if not isinstance(grader, Mapping) or not isinstance(grader.get("type"), str):
        raise NotCarriedError("file", "must have testing_criteria or a grader")
    return [grader]


def _template(config: Fields) -> list[Any] | None:
    source = config.get("data_source")
    messages = (source if isinstance(source, Mapping) else config).get("input_messages")
    template = messages.get("template") if isinstance(messages, Mapping) else None
    return template if isinstance(template, list) and template else None


def _rows(path: Path) -> list[Fields]:
    try:
        rows = [json.loads(line) for line in read_text(path).split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise NotCarriedError("data", f"{path.name} is not JSON Lines in UTF-8: {error}") from error
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise NotCarriedError("data", f"{path.name} must have objects, one on each line")
    return rows


def _turns(template: list[Any] | None, row: Fields, item: Fields) -> list[dict[str, str]]:
    given = template or row.get("messages") or item.get("messages")
    if not isinstance(given, list) or not given:
        raise NotCarriedError("input_messages", "there is neither a template, nor messages in the row")
    return [_turn(message, item, is_template=template is not None) for message in given]


def _turn(message: Any, item: Fields, *, is_template: bool) -> dict[str, str]:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    text = content.get("text") if isinstance(content, Mapping) else content
    if not isinstance(text, str) or message.get("role") not in _ROLES or message.get("tool_calls"):
        raise NotCarriedError("input_messages", "a message must have a role and one text, without tool calls")
    return {"role": _ROLES[message["role"]], "content": _rendered(text, item) if is_template else text}


def _expectations(graders: list[Any], item: Fields) -> tuple[list[Expectation], list[NotCarriedError]]:
    expect, faults = [], []
    for grader in graders:
        try:
            expect.append(_expectation(grader, item))
        except NotCarriedError as error:
            faults.append(error)
    return expect, faults


def _expectation(grader: Any, item: Fields) -> Expectation:
    kind = str(grader.get("type")) if isinstance(grader, Mapping) else "grader"
    if kind == "multi":
        return _combined(grader, item)
    if kind == "text_similarity":
        metric = str(grader.get("evaluation_metric"))
        reason = _SIMILARITIES.get(metric, "depends on how words are separated, which is not documented")
        raise NotCarriedError(f"{kind} {metric}", reason)
    if kind != "string_check":
        raise NotCarriedError(kind, _REFUSED.get(kind, "is not a known type of grader"))
    given, reference = grader.get("input"), grader.get("reference")
    if not isinstance(given, str) or not isinstance(reference, str):
        raise NotCarriedError(kind, "input and reference must be texts")
    operation = grader.get("operation")
    if operation in {"eq", "ne"} and _OUTPUT.fullmatch(reference):
        given, reference = reference, given
    if not _OUTPUT.fullmatch(given):
        raise NotCarriedError(kind, "input must be {{ sample.output_text }}")
    expected = _rendered(reference, item)
    if not expected:
        raise NotCarriedError(kind, "the reference is empty")
    if operation in {"eq", "ne"}:
        equals = {"type": "equals", "value": expected, "trim": False}
        return equals if operation == "eq" else {**equals, "not": True}
    if operation == "like":
        return {"type": "contains", "value": expected}
    if operation == "ilike":
        raise NotCarriedError(f"{kind} ilike", "how letters outside ASCII are compared is not documented")
    raise NotCarriedError(kind, f"the operation {operation} is unknown")


def _combined(grader: Fields, item: Fields) -> Expectation:
    """Return the expectation of a multi grader with a formula that only gives 1 or 0."""
    graders, formula = grader.get("graders"), grader.get("calculate_output")
    if not isinstance(graders, Mapping) or not isinstance(formula, str):
        raise NotCarriedError("multi", "must have graders with names and calculate_output, a text")
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise NotCarriedError("multi", "calculate_output is not a formula") from error
    return _term(tree, graders, item, 1)


def _term(tree: ast.expr, graders: Fields, item: Fields, depth: int) -> Expectation:
    if isinstance(tree, ast.Name) and tree.id in graders:
        one = graders[tree.id]
        if isinstance(one, Mapping) and one.get("type") == "multi":
            raise NotCarriedError("multi", "is inside another multi grader")
        return _expectation(one, item)
    type_, terms = None, []
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Mult):
        type_, terms = "all", [tree.left, tree.right]
    elif isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.keywords:
        type_, terms = {"min": "all", "max": "any"}.get(tree.func.id), tree.args
    if type_ is None or not terms or depth > _MAX_DEPTH:
        reason = "gives a score without a limit that passes, unless its formula only has *, min and max"
        raise NotCarriedError("multi", reason)
    of: list[Expectation] = []
    for each in (_term(term, graders, item, depth + 1) for term in terms):
        of += each["of"] if each["type"] == type_ else [each]
    return of[0] if len(of) == 1 else {"type": type_, "of": of}


def _may_pass_empty(expectation: Expectation) -> bool:
    """Whether an output without text, or with only white space, may pass."""
    if "of" in expectation:
        return (all if expectation["type"] == "all" else any)(map(_may_pass_empty, expectation["of"]))
    return bool(expectation.get("not", not expectation["value"].strip()))


def _rendered(template: str, item: Fields) -> str:
    """Return the text of a template that refers to fields of ``item``."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or ""
        if not _ITEM.fullmatch(name):
            raise NotCarriedError("template", f"only fields such as item.name are supported, not {match[0]}")
        found: Any = item
        for part in name.split(".")[1:]:
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, str) and (isinstance(found, bool) or not isinstance(found, int)):
            raise NotCarriedError("template", f"{name} is not a text or an integer in some rows")
        return str(found)

    return _TAG.sub(value, template)
