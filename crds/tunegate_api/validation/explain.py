"""Translate pydantic's errors into messages for the author of a manifest."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tunegate_api.meta import (
    DECIMAL_PATTERN,
    DNS_NAME_DESCRIPTION,
    DNS_NAME_PATTERN,
    NAME_PATTERN,
    SHA256_PATTERN,
)
from tunegate_api.v1alpha2.endpoint import BASE_URL_PATTERN, HTTP_PATTERN
from tunegate_api.v1alpha2.fields import KEY_PATTERN, METRIC_NAME_PATTERN, URI_PATTERN
from tunegate_api.v1alpha2.pods import QUANTITY_PATTERN
from tunegate_api.v1alpha2.sets import CASE_ID_PATTERN
from tunegate_api.v1alpha2.shares import NOT_A_SHARE, PERCENT_DESCRIPTION, PERCENT_PATTERN
from tunegate_api.v1alpha2.stages import ARG_PATTERN

PATTERN_DESCRIPTIONS = {
    ARG_PATTERN: 'the name of an optimizer, or a number in quotes of at least 0 and below 1, such as "0.95"',
    BASE_URL_PATTERN: "an address that begins with http:// or https://, without @, ? and #",
    CASE_ID_PATTERN: "letters, digits, dots, dashes and underscores, beginning with a letter or a digit",
    DECIMAL_PATTERN: 'a number in quotes, such as "0.9" or "2e-4"',
    DNS_NAME_PATTERN: DNS_NAME_DESCRIPTION,
    HTTP_PATTERN: "an address that begins with http:// or https://",
    METRIC_NAME_PATTERN: "lower-case letters, digits, dashes and underscores, beginning with a letter",
    KEY_PATTERN: "a key of a ConfigMap: letters, digits, dots, dashes and underscores",
    NAME_PATTERN: "lower-case letters, digits and dashes, without a dash first or last",
    PERCENT_PATTERN: PERCENT_DESCRIPTION,
    QUANTITY_PATTERN: 'a Kubernetes quantity, such as "4", "500m" or "24Gi"',
    SHA256_PATTERN: "the 64 hexadecimal digits that sha256sum prints",
    URI_PATTERN: "an address with its scheme, such as pvc://CLAIM/PATH or package://NAME",
}
"""Maps each pattern to a description of matching strings, for error messages."""
RENAMED = {
    ("Data", "mix"): 'entries of sources, such as - {name: chats, use: Mix, weight: "0.5"}',
    ("Data", "preference"): "an entry of sources, such as - {name: ranked, use: Preference}",
    ("Data", "production"): "an entry of sources, such as - {name: requests, use: Production}",
    ("Data", "train"): "an entry of sources, such as - {name: invoices, uri: pvc://CLAIM/PATH}",
    ("Data", "checks"): "a list of checks by name, such as - {name: BadRows, policy: Warn, max: 2%}",
    ("DataCheck", "maxAUC"): "max",
    ("DataCheck", "maxShare"): "max",
    ("EvalGateSpec", "anchor"): "compareWith: [{type: Version, version: {uri: ..., digest: ...}}]",
    ("EvalGateSpec", "baselines"): "compareWith: [{type: BaseModel}, {type: LastPublished}]",
    ("EvalGateSpec", "calibration"): "errorRate",
    ("EvalGateSpec", "dryRun"): "enforcement: DryRun",
    ("EvalGateSpec", "override"): "approval: WhenFailed, or Always if a person must also approve",
    ("EvalGateSpec", "guardrail"): "graders: [{name: guard, type: Guardrail, endpoint: ..., protocol: ...}]",
    ("EvalGateSpec", "judge"): "graders: [{name: judge, type: Model, endpoint: ..., agreement: {set: ...}}]",
    ("EvalGateSpec", "golden"): "sets: [{name: golden, source: ...}]",
    ("EvalGateSpec", "safety"): "sets: [{name: safety, kind: Safety, source: ...}]",
    ("EvalGateSpec", "served"): "compareWith: [{type: Endpoint, endpoint: {url: ..., model: ...}}]",
    ("EvalGateSpec", "thresholds"): "the rules of a set: [{name: all, minPassRate: 90%, failAtDrop: 5%}]",
    ("FineTuneJobSpec", "evaluateEvery"): "evaluation: {every: 20%}, or a number of steps",
    ("FineTuneJobSpec", "mergeAdapter"): "artifact: {form: Merged}",
    ("GateSet", "scorer"): "grader, the name of an entry of graders",
    ("Generation", "batchSize"): "evaluation.batchSize of the FineTuneJob",
    ("Generation", "batching"): "evaluation.batching of the FineTuneJob",
    ("Generation", "precision"): "evaluation.precision of the FineTuneJob",
    ("TaskMetric", "maxDropBetweenCheckpoints"): "checkpoints: {failAtDrop: 10%}",
    ("TaskMetric", "onRegression"): "checkpoints: {failAtDrop: 10%, onRegression: ...}",
    ("Quality", "judge"): "grader: {gate: ..., name: ...}, a grader of an EvalGate",
    ("Quality", "review"): "grader: leave it out if people score the sample",
}
"""Maps a type and a field of earlier versions to what replaces the field."""


def explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    """Return the message for a validation error: what is wrong with the field, and what to write instead.

    ``model`` is the type that was validated. The location of the error is relative to ``model``.
    """
    explanation = _EXPLANATIONS.get(error["type"])
    return explanation(error, model) if explanation else error["msg"].lower()


def field_at(model: type[BaseModel], location: Sequence[str | int]) -> FieldInfo | None:
    """Return the field of ``model`` at ``location``, a path of JSON names. Returns None inside free-form
    values."""
    owner: type[BaseModel] | None = model
    field = None
    for name in location:
        if isinstance(name, int):
            continue
        field = (
            next((f for n, f in owner.model_fields.items() if name == (f.alias or n)), None)
            if owner
            else None
        )
        owner = model_of(field.annotation) if field else None
    return field


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model class in a type annotation: Stage for ``list[Stage] | None``."""
    return _model_of(annotation)


@cache
def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_of(inner))), None)


def wire_names(model: type[BaseModel]) -> list[str]:
    """Return the JSON names of the fields of ``model``."""
    return [field.alias or name for name, field in model.model_fields.items()]


def unknown_field(name: object, known: Sequence[str]) -> str:
    """Return the message for an unknown field."""
    return f"unknown field{_guess(name, known) or '.'} Known fields: {', '.join(known)}"


def wrong_choice(value: object, allowed: Sequence[str]) -> str:
    """Return the message for a value that is not one of the ``allowed`` values."""
    guess = _guess(value, allowed) if len(allowed) > 1 else ""
    choices = f"one of {', '.join(allowed)}" if len(allowed) > 1 else "".join(allowed)
    return f"is {_shown(value)}{guess or ':'} {'Must' if guess else 'must'} be {choices}"


def not_text(value: object) -> str:
    """Return the message for a value that must be a string, but is not."""
    if isinstance(value, (bool, int, float)):
        return f'must be text: write "{_yaml(value)}", with the quotes'
    return f"must be text, not {_kind(value)}"


def _guess(word: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(_letters(word), [_letters(k) for k in known], n=1, cutoff=0.7)
    return next((f", did you mean {k}?" for k in known if near == [_letters(k)]), "")


def _letters(name: object) -> str:
    """Return the name in lower case and without separators, so that learning_rate equals learningRate."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _missing(error: ErrorDetails, model: type[BaseModel]) -> str:
    field = field_at(model, error["loc"])
    text = " ".join((field.description if field and field.description else "").split())
    owner = model_of(field.annotation) if field else None
    text = text or " ".join((owner.__doc__ or "").split() if owner else [])
    sentence = re.match(r".*?[.](?= |$)", text)
    choices = ", ".join(_literals(field.annotation if field else None))
    must_be = f" Must be one of {choices}" if choices else ""
    return f"missing. {sentence[0] if sentence else text}{must_be}".rstrip()


def _unknown(error: ErrorDetails, model: type[BaseModel]) -> str:
    owner = _owner(error, model)
    name = str(error["loc"][-1])
    if owner and (owner.__name__, name) in RENAMED:
        return f"unknown field, replaced by {RENAMED[owner.__name__, name]}"
    return unknown_field(name, wire_names(owner) if owner else [])


def _owner(error: ErrorDetails, model: type[BaseModel]) -> type[BaseModel] | None:
    """Return the type that has the field of the error, or None inside free-form values."""
    parents = [part for part in error["loc"][:-1] if isinstance(part, str)]
    field = field_at(model, error["loc"][:-1])
    return model_of(field.annotation) if field else model if not parents else None


def _literal(error: ErrorDetails, model: type[BaseModel]) -> str:
    field = field_at(model, error["loc"])
    return wrong_choice(error["input"], _literals(field.annotation if field else None))


def _literals(annotation: Any) -> list[str]:
    """Return the strings that a Literal in a type annotation allows."""
    inner = get_args(annotation)
    texts = [value for value in inner if isinstance(value, str)]
    return texts or [text for arg in inner for text in _literals(arg)]


def _pattern(error: ErrorDetails, _: type[BaseModel]) -> str:
    pattern = error["ctx"]["pattern"]
    return f"is {_shown(error['input'])}: must be {PATTERN_DESCRIPTIONS.get(pattern, f'like {pattern}')}"


def _not_a_share(error: ErrorDetails, _: type[BaseModel]) -> str:
    return f"is {_shown(error['input'])}: {error['msg']}"


def _not_text(error: ErrorDetails, _: type[BaseModel]) -> str:
    return not_text(error["input"])


def _not_whole(error: ErrorDetails, _: type[BaseModel]) -> str:
    value = error["input"]
    if isinstance(value, str) and value.isdigit():
        return f"must be a whole number: write {value}, without quotes"
    return f"must be a whole number, not {_shown(value)}"


def _not_bool(error: ErrorDetails, _: type[BaseModel]) -> str:
    return f"must be true or false, without quotes, not {_shown(error['input'])}"


def _not_mapping(error: ErrorDetails, model: type[BaseModel]) -> str:
    field = field_at(model, error["loc"])
    owner = model_of(field.annotation) if field else None
    fields = f" with the fields {', '.join(wire_names(owner))}" if owner else ""
    return f"must be a mapping{fields}, not {_kind(error['input'])}"


def _not_list(error: ErrorDetails, model: type[BaseModel]) -> str:
    owner, name = _owner(error, model), str(error["loc"][-1])
    if owner and (owner.__name__, name) in RENAMED:
        return f"must be a list, replaced by {RENAMED[owner.__name__, name]}"
    return f"must be a list with a dash before each entry, not {_kind(error['input'])}"


def _too_short(error: ErrorDetails, _: type[BaseModel]) -> str:
    least = error["ctx"]["min_length"]
    return f"has {_count(error['ctx']['actual_length'])}: must have at least {least}"


def _too_long(error: ErrorDetails, _: type[BaseModel]) -> str:
    return f"has {_count(len(error['input']))}: must have at most {error['ctx']['max_length']}"


def _short_text(error: ErrorDetails, _: type[BaseModel]) -> str:
    least = error["ctx"]["min_length"]
    return f"must have at least {least} character{'s' * (least > 1)}"


def _long_text(error: ErrorDetails, _: type[BaseModel]) -> str:
    return f"has {len(error['input'])} characters: must have at most {error['ctx']['max_length']}"


def _too_small(error: ErrorDetails, _: type[BaseModel]) -> str:
    return f"is {error['input']}: must be at least {error['ctx']['ge']}"


def _too_big(error: ErrorDetails, _: type[BaseModel]) -> str:
    return f"is {error['input']}: must be at most {error['ctx']['le']}"


_EXPLANATIONS: Mapping[str, Callable[[ErrorDetails, type[BaseModel]], str]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "literal_error": _literal,
    "string_pattern_mismatch": _pattern,
    NOT_A_SHARE: _not_a_share,
    "string_type": _not_text,
    "int_type": _not_whole,
    "int_from_float": _not_whole,
    "bool_type": _not_bool,
    "model_type": _not_mapping,
    "dict_type": _not_mapping,
    "list_type": _not_list,
    "too_short": _too_short,
    "too_long": _too_long,
    "string_too_short": _short_text,
    "string_too_long": _long_text,
    "greater_than_equal": _too_small,
    "less_than_equal": _too_big,
}


def _count(number: int) -> str:
    return "1 entry" if number == 1 else f"{number or 'no'} entries"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: object) -> str:
    """Return a value as in the manifest, truncated to a readable length."""
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    return _yaml(value) if isinstance(value, (bool, int, float)) else _kind(value)


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the text {_shown(value)}" if isinstance(value, str) else f"the value {_yaml(value)}"
