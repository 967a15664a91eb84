"""Facts about a mapping that rules ask for, each in two languages: Python over a Part, and CEL.

Facts combine with ``&`` and ``~``. In Python a fact is unknown (None) where a field that is complained about
already would decide; what is unknown is never refused.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunegate_api.meta import DECIMAL_PATTERN, exact
from tunegate_api.validation.partial import Part


@dataclass(frozen=True)
class Predicate:
    """Something that holds of a mapping, or does not."""

    holds: Callable[[Part], bool | None]
    cel: Callable[[str], str]
    """The CEL expression, given what the mapping is called in it."""

    def __and__(self, other: "Predicate") -> "Predicate":
        def holds(part: Part) -> bool | None:
            results = (self.holds(part), other.holds(part))
            return False if False in results else None if None in results else True

        return Predicate(holds, lambda name: f"{self.cel(name)} && {other.cel(name)}")

    def __invert__(self) -> "Predicate":
        def holds(part: Part) -> bool | None:
            result = self.holds(part)
            return None if result is None else not result

        return Predicate(holds, lambda name: f"!({self.cel(name)})")


def given(field: str) -> Predicate:
    """The field is there. ``adapter.from`` is a field of a field, here and below."""

    def holds(part: Part) -> bool:
        holder, name = _holder(part, field)
        return holder.has(name)

    return Predicate(holds, lambda name: cel_has(name, field))


def equal(field: str, *values: str) -> Predicate:
    """The field is there, and one of these texts."""
    cel = f"== '{values[0]}'" if len(values) == 1 else f"in {list(values)}"
    return _value(field, lambda value: value in values, lambda name: f"{name} {cel}")


def matches(field: str, pattern: str) -> Predicate:
    """The field is there, and the pattern is found in its text."""
    return _value(
        field, lambda value: bool(re.search(pattern, value)), lambda name: cel_matches(name, pattern)
    )


def zero(field: str) -> Predicate:
    """The field is there, and a decimal that is 0."""
    return _value(
        field,
        lambda value: exact(value) == 0,
        lambda name: f"{cel_matches(name, DECIMAL_PATTERN)} && double({name}) == 0.0",
    )


def longer_than(field: str, number: int) -> Predicate:
    """The field is there, and a list of more entries than this."""
    return _value(field, lambda value: len(value) > number, lambda name: f"size({name}) > {number}")


def list_contains(field: str, text: str) -> Predicate:
    """The field is there, and a list with this text in it."""
    return _value(field, lambda value: text in value, lambda name: f"'{text}' in {name}")


def same(field: str, other: str) -> Predicate:
    """Both fields are there, and hold the same text."""

    def holds(part: Part) -> bool | None:
        values = [holder.get(name) for holder, name in (_holder(part, field), _holder(part, other))]
        return None if None in values else values[0] == values[1]

    equal = Predicate(holds, lambda name: f"{name}.{field} == {name}.{other}")
    return given(field) & given(other) & equal


def any_entry(field: str, predicate: Predicate) -> Predicate:
    """The field is there, and a list with an entry of which the fact holds."""

    def holds(part: Part) -> bool | None:
        if part.has(field) and part.get(field) is None:
            return None
        results = [predicate.holds(entry) for entry in part.parts(field)]
        return True if True in results else None if None in results else False

    return Predicate(
        holds,
        lambda name: f"{cel_has(name, field)} && {name}.{field}.exists(entry, {predicate.cel('entry')})",
    )


def not_divisible(field: str, number: str, *factors: str) -> Predicate:
    """The field is there, and a list with an entry whose number the product of the factors does not divide.
    A factor that is left out is 1."""

    def holds(part: Part) -> bool | None:
        known = [_number(part, factor, 1) for factor in factors]
        found = [_number(entry, number, 0) for entry in part.parts(field)]
        if None in known or None in found:
            return None
        return any(value % math.prod(v for v in known if v) for value in found if value)

    def cel(name: str) -> str:
        product = " * ".join(f"({cel_has(name, factor)} ? {name}.{factor} : 1)" for factor in factors)
        entry = f"{cel_has('entry', number)} && entry.{number} % ({product}) != 0"
        return f"{cel_has(name, field)} && {name}.{field}.exists(entry, {entry})"

    return Predicate(holds, cel)


def first_entry(field: str, predicate: Predicate) -> Predicate:
    """The field is there, and a list with a first entry of which the fact holds."""

    def holds(part: Part) -> bool | None:
        results = [predicate.holds(entry) for entry in part.parts(field) if entry.path[-1] == 0]
        return results[0] if results else False

    return longer_than(field, 0) & Predicate(holds, lambda name: predicate.cel(f"{name}.{field}[0]"))


def cel_has(name: str, field: str) -> str:
    """Whether ``name`` has the field, and each field on the way to it."""
    names = field.split(".")
    return " && ".join(f"has({'.'.join([name, *names[: i + 1]])})" for i in range(len(names)))


def cel_matches(name: str, pattern: str) -> str:
    """Whether the text ``name`` has the pattern in it. Patterns are those that Python and RE2 both read."""
    return f"{name}.matches(r'{pattern}')"


def _holder(part: Part, field: str) -> tuple[Part, str]:
    """The mapping that a field of a field is in, and its name there."""
    *parents, name = field.split(".")
    for parent in parents:
        part = part.part(parent)
    return part, name


def _number(part: Part, field: str, otherwise: int) -> int | None:
    """A whole number; ``otherwise`` where it is left out, and None where it is none."""
    holder, name = _holder(part, field)
    value = holder.get(name)
    return value if isinstance(value, int) else None if holder.has(name) else otherwise


def _value(field: str, test: Callable[[Any], bool], cel: Callable[[str], str]) -> Predicate:
    """The field is there, and its value passes a test that is given in both languages."""

    def holds(part: Part) -> bool | None:
        holder, name = _holder(part, field)
        value = holder.get(name)
        if value is None:
            return None if holder.has(name) else False
        return test(value)

    return Predicate(holds, lambda name: f"{cel_has(name, field)} && {cel(f'{name}.{field}')}")
