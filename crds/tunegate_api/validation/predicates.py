"""Predicates of a mapping for validation rules, each in Python (on a Part) and in CEL.

Predicates are combined with ``&``, ``|`` and ``~``. In Python, a predicate is None (unknown) if it depends on
a field that already has an error. If the predicate of a rule is unknown, the rule refuses nothing.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunegate_api.v1alpha2.shares import PERCENT_PATTERN, share
from tunegate_api.validation.partial import Part


@dataclass(frozen=True)
class Predicate:
    """A condition that a mapping can satisfy."""

    holds: Callable[[Part], bool | None]
    cel: Callable[[str], str]
    """Takes the name of the mapping in CEL, and returns the predicate as a CEL expression."""

    def __and__(self, other: "Predicate") -> "Predicate":
        def holds(part: Part) -> bool | None:
            results = (self.holds(part), other.holds(part))
            return False if False in results else None if None in results else True

        return Predicate(holds, lambda name: f"{self.cel(name)} && {other.cel(name)}")

    def __or__(self, other: "Predicate") -> "Predicate":
        def holds(part: Part) -> bool | None:
            results = (self.holds(part), other.holds(part))
            return True if True in results else None if None in results else False

        return Predicate(holds, lambda name: f"({self.cel(name)} || {other.cel(name)})")

    def __invert__(self) -> "Predicate":
        def holds(part: Part) -> bool | None:
            result = self.holds(part)
            return None if result is None else not result

        return Predicate(holds, lambda name: _negated(self.cel(name)))


def given(field: str) -> Predicate:
    """Return the predicate "the field is given". A nested field is written as ``adapter.from``."""

    def holds(part: Part) -> bool:
        holder, name = nested(part, field)
        return holder.has(name)

    return Predicate(holds, lambda name: cel_has(name, field))


def equal(field: str, *values: str) -> Predicate:
    """Return the predicate "the field is given, and equals one of the strings ``values``"."""
    cel = f"== '{values[0]}'" if len(values) == 1 else f"in {list(values)}"
    return _value(field, lambda value: value in values, lambda name: f"{name} {cel}")


def true(field: str) -> Predicate:
    """Return the predicate "the field is given, and is true"."""
    return _value(field, lambda value: value is True, lambda name: name)


def matches(field: str, pattern: str) -> Predicate:
    """Return the predicate "the field is given, and the pattern is found in its value"."""
    return _value(
        field, lambda value: bool(re.search(pattern, value)), lambda name: cel_matches(name, pattern)
    )


def is_number(field: str) -> Predicate:
    """Return the predicate "the field is given, and is a number, not a share"."""
    return _value(field, lambda value: isinstance(value, int), lambda name: f"type({name}) == int")


def lacks_percent_sign(field: str) -> Predicate:
    """Return the predicate "the field is given, and is a text without %". It is for the
    message about a number or share, of which the API server otherwise prints only the pattern. A rule cannot
    match the pattern: before Kubernetes 1.34, its cost is estimated without ``maxLength``, and is too high in
    a list."""
    return _value(
        field,
        lambda value: isinstance(value, str) and not value.endswith("%"),
        lambda name: f"type({name}) != int && !{name}.endsWith('%')",
    )


def below(field: str, percent: int) -> Predicate:
    """Return the predicate "the field is given, and is a share of less than ``percent``"."""
    return _value(
        field,
        lambda value: 100 * share(value) < percent,
        lambda name: (
            f"{cel_matches(name, PERCENT_PATTERN)} && double({name}.replace('%', '')) < {float(percent)}"
        ),
    )


def longer_than(field: str, number: int) -> Predicate:
    """Return the predicate "the field is given, and is a list with more than ``number`` entries"."""
    return _value(field, lambda value: len(value) > number, lambda name: f"size({name}) > {number}")


def list_contains(field: str, text: str) -> Predicate:
    """Return the predicate "the field is given, and is a list that contains the string ``text``"."""
    return _value(field, lambda value: text in value, lambda name: f"'{text}' in {name}")


def same(field: str, other: str) -> Predicate:
    """Return the predicate "both fields are given, and are the same string"."""

    def holds(part: Part) -> bool | None:
        values = [holder.get(name) for holder, name in (nested(part, field), nested(part, other))]
        return None if None in values else values[0] == values[1]

    equal = Predicate(holds, lambda name: f"{name}.{field} == {name}.{other}")
    return given(field) & given(other) & equal


def names_entry(field: str, to: str) -> Predicate:
    """Return the predicate "the field is given, and is the ``name`` of an entry of the list ``to``"."""

    def holds(part: Part) -> bool | None:
        holder, name = nested(part, field)
        names = [entry.text("name") for entry in part.parts(to)]
        if holder.text(name) is None or None in names:
            return None if holder.has(name) else False
        return holder.text(name) in names

    known = Predicate(holds, lambda name: f"{name}.{to}.exists(entry, entry.name == {name}.{field})")
    return given(field) & given(to) & known


def any_entry(field: str, predicate: Predicate) -> Predicate:
    """Return the predicate "the field is given, and is a list in which the predicate holds for at least one
    entry"."""
    return _entries(field, predicate, 0, lambda name: f"{name}.exists(entry, {predicate.cel('entry')})")


def more_entries(field: str, predicate: Predicate, number: int) -> Predicate:
    """Return the predicate "the field is given, and is a list in which the predicate holds for more than
    ``number`` entries"."""
    return _entries(
        field,
        predicate,
        number,
        lambda name: f"{name}.filter(entry, {predicate.cel('entry')}).size() > {number}",
    )


def _entries(field: str, predicate: Predicate, number: int, cel: Callable[[str], str]) -> Predicate:
    """Return the predicate "the field is given, and is a list in which ``predicate`` holds for more than
    ``number`` entries". ``cel`` is the test of the list in CEL."""

    def holds(part: Part) -> bool | None:
        holder, name = nested(part, field)
        if holder.has(name) and holder.get(name) is None:
            return None
        results = [predicate.holds(entry) for entry in holder.parts(name)]
        known = results.count(True)
        return True if known > number else None if known + results.count(None) > number else False

    return Predicate(holds, lambda name: f"{cel_has(name, field)} && {cel(f'{name}.{field}')}")


def not_divisible(field: str, number: str, *factors: str) -> Predicate:
    """Return the predicate "the list ``field`` has an entry whose ``number`` is not divisible by the product
    of the ``factors``". ``number`` is a field of an entry, and the factors are fields of the mapping. A
    factor that is not given is 1."""

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
    """Return the predicate "the field is a list, and the predicate holds for its first entry"."""

    def holds(part: Part) -> bool | None:
        results = [predicate.holds(entry) for entry in part.parts(field) if entry.path[-1] == 0]
        return results[0] if results else False

    return longer_than(field, 0) & Predicate(holds, lambda name: predicate.cel(f"{name}.{field}[0]"))


def _negated(cel: str) -> str:
    return f"!{cel}" if re.fullmatch(r"has\([\w.]+\)", cel) else f"!({cel})"


def cel_has(name: str, field: str) -> str:
    """Return the CEL test that ``name`` has the field and all of its parents."""
    names = field.split(".")
    return " && ".join(f"has({'.'.join([name, *names[: i + 1]])})" for i in range(len(names)))


def cel_matches(name: str, pattern: str) -> str:
    """Return the CEL test that the pattern is found in the string ``name``. The pattern must be valid in both
    Python and RE2."""
    return f"{name}.matches(r'{pattern}')"


def nested(part: Part, field: str) -> tuple[Part, str]:
    """Return the mapping that contains a nested field, and the field's name in this mapping."""
    *parents, name = field.split(".")
    for parent in parents:
        part = part.part(parent)
    return part, name


def _number(part: Part, field: str, otherwise: int) -> int | None:
    """Return the value of an integer field. Returns ``otherwise`` if the field is not given, and None if its
    value is not an integer."""
    holder, name = nested(part, field)
    value = holder.get(name)
    return value if isinstance(value, int) else None if holder.has(name) else otherwise


def _value(field: str, test: Callable[[Any], bool], cel: Callable[[str], str]) -> Predicate:
    """Return the predicate "the field is given, and its value passes a test". ``test`` is the test in Python,
    and ``cel`` the same test in CEL."""

    def holds(part: Part) -> bool | None:
        holder, name = nested(part, field)
        value = holder.get(name)
        if value is None:
            return None if holder.has(name) else False
        return test(value)

    return Predicate(holds, lambda name: f"{cel_has(name, field)} && {cel(f'{name}.{field}')}")
