"""Walk through a manifest along the types of its fields, and check the rules of each type and each value."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic.fields import FieldInfo

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.values import ValueRule
from tunegate_api.validation.explain import model_of
from tunegate_api.validation.free_form import FREE_FORM_CHECKS
from tunegate_api.validation.partial import Part
from tunegate_api.validation.rules import RULES


def check(model: type[ApiModel], part: Part) -> None:
    """Check a mapping of the type ``model`` and the mappings in it, and add a problem to ``part`` for each
    broken rule."""
    if not part:
        return
    for rule in RULES.get(model, ()):
        rule.check(part)
    if model in FREE_FORM_CHECKS:
        FREE_FORM_CHECKS[model](part)
    for field in _checked_fields(model):
        _check_field(part, field)


@dataclass(frozen=True)
class _Field:
    """What is checked about one field: the constraints of its value, and the type of the mappings in it."""

    name: str
    rules: tuple[ValueRule, ...]
    model: type[ApiModel] | None


@cache
def _checked_fields(model: type[ApiModel]) -> tuple[_Field, ...]:
    """Return the fields of a model that have constraints or contain mappings."""
    found = []
    for name, field in model.model_fields.items():
        inner = model_of(field.annotation)
        typed = inner if inner and issubclass(inner, ApiModel) else None
        found.append(_Field(field.alias or name, tuple(_value_rules(field)), typed))
    return tuple(field for field in found if field.rules or field.model)


def _check_field(part: Part, field: _Field) -> None:
    text = part.text(field.name)
    if text is not None:
        for rule in field.rules:
            if not rule.allows(text):
                part.refuse(f'is "{text}": {rule.message}', field.name)
                break
    if field.model:
        for entry in (part.part(field.name), *part.parts(field.name)):
            check(field.model, entry)


def _value_rules(field: FieldInfo) -> Iterator[ValueRule]:
    """Yield the constraints of single values that are declared with the type of ``field``."""
    yield from (rule for rule in field.metadata if isinstance(rule, ValueRule))
    yield from _annotated(field.annotation)


def _annotated(annotation: Any) -> Iterator[ValueRule]:
    yield from (rule for rule in getattr(annotation, "__metadata__", ()) if isinstance(rule, ValueRule))
    for inner in get_args(annotation):
        yield from _annotated(inner)
