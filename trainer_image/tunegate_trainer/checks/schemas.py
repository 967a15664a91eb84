"""Check the JSON schemas of golden cases and task metrics, before training instead of at a checkpoint."""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from tunegate_api.cases.expectations import SchemaExpectation, leaves
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, listed

NAME = "schemas"

MetricSchemas = Mapping[str, dict[str, Any]]
"""The JSON schema of each task metric, by the metric's name."""


def run(rows: MetricSchemas, context: CheckContext) -> Iterator[Finding]:
    """Refuse a JSON schema of a golden case or a task metric if it is invalid or refers to other schemas."""
    problems: list[str] = []
    for gate, cases in context.golden.items():
        for case in cases:
            for expectation in leaves(case.expect):
                if isinstance(expectation, SchemaExpectation):
                    problems += _schema_problem(f"EvalGate {gate}, case {case.id}", expectation.schema_)
    for metric, schema in rows.items():
        problems += _schema_problem(f"taskMetrics {metric}", schema)
    if not problems:
        return
    yield Finding(
        message=listed(problems),
        count=len(problems),
        examples=problems[:SHOWN_EXAMPLES],
        remedy="correct these schemas: no output can be scored with them",
    )


def _schema_problem(where: str, schema: dict[str, Any]) -> list[str]:
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return [f"{where}: the JSON schema is invalid at {error.json_path}: {error.message}"]
    return [
        f"{where}: the reference {reference} cannot be resolved; a schema may refer only to its own parts"
        for reference in _unresolvable(schema)
    ]


def _unresolvable(schema: dict[str, Any]) -> list[str]:
    """Return the references of a valid schema that point outside of the schema, such as URLs of other
    schemas.

    References are resolved in the same way as by jsonschema, see https://referencing.readthedocs.io.
    """
    specification = specification_with(validator_for(schema).META_SCHEMA["$schema"])
    root = specification.create_resource(schema)
    pending = [(root, REGISTRY.resolver_with_root(root))]
    unresolvable: set[str] = set()
    seen: set[int] = set()
    while pending:
        part, resolver = pending.pop()
        if id(part.contents) in seen or not isinstance(part.contents, dict):
            continue
        seen.add(id(part.contents))
        pending += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]
        for reference in (part.contents.get("$ref"), part.contents.get("$dynamicRef")):
            if not isinstance(reference, str):
                continue
            try:
                found = resolver.lookup(reference)
            except (Unresolvable, TypeError, ValueError):  # the last two: a pointer into a number or a list
                unresolvable.add(reference)
            else:
                pending.append((specification.create_resource(found.contents), found.resolver))
    return sorted(unresolvable)
