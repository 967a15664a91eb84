"""Scorers for JSON outputs: the output is valid against a schema, or equal to a value."""

import json
from typing import Any

from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from tunegate_trainer.graders.grader import MAX_EXPLANATION, Sample, quoted


def json_schema(sample: Sample) -> str | None:
    """Pass if the output is JSON that is valid against the reference, a JSON schema.

    Raises an exception, which makes the sample an error, if the schema is invalid or needs another schema.
    """
    return schema_problem(schema_validator(sample.reference), sample.output)


def schema_validator(schema: dict[str, Any]) -> Validator:
    """Return the validator of a JSON schema. Raises :class:`SchemaError` if the schema is invalid."""
    validator_class = validator_for(schema)
    validator_class.check_schema(schema)
    # jsonschema's default registry would fetch schemas over the network, without a timeout.
    return validator_class(schema, registry=Registry())


def schema_problem(validator: Validator, text: str) -> str | None:
    """Return why ``text`` is not JSON that is valid against a schema, or None if it is.

    Raises :class:`Unresolvable` if the schema needs another schema.
    """
    value, problem = _parsed(text)
    if problem is not None:
        return problem
    error = next(iter(sorted(validator.iter_errors(value), key=lambda e: str(e.path))), None)
    return None if error is None else f"{error.json_path}: {error.message}"[:MAX_EXPLANATION]


def json_equals(sample: Sample) -> str | None:
    """Pass if the output is JSON with the value of the reference.

    White space and the order of keys are ignored. ``1`` equals ``1.0``, but not ``true``.
    """
    shown = json.dumps(sample.reference, ensure_ascii=False)
    value, problem = _parsed(sample.output)
    if problem is not None:
        return problem
    return None if same_json(value, sample.reference) else f"is not {quoted(shown)}"


def same_json(left: Any, right: Any) -> bool:
    """Return whether two parsed JSON values are equal as JSON."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)


def _parsed(text: str) -> tuple[Any, str | None]:
    """Return the parsed value, or the reason why the text is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant), None
    except ValueError as error:
        return None, f"is not JSON: {error}"


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed in JSON")
