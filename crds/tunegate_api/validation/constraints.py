"""Rules about the fields of one mapping, each in Python and in CEL for the API server.

In Python and in CEL, a rule has the same error message, which says how to fix the manifest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from tunegate_api.validation.partial import Part, Path, Problem
from tunegate_api.validation.predicates import Predicate, cel_matches, given, nested

CelRule = dict[str, str]


class FieldRule(Protocol):
    """A rule about the fields of a mapping."""

    def check(self, part: Part) -> None:
        """Add a problem if ``part`` breaks the rule."""
        ...

    @property
    def cel(self) -> CelRule:
        """The rule in CEL, as an entry of ``x-kubernetes-validations``."""
        ...


@dataclass(frozen=True)
class OneOf:
    """The rule that exactly one of several fields is given, or with ``required=False`` at most one."""

    names: tuple[str, ...]
    required: bool = True

    def check(self, part: Part) -> None:
        names = [name for name in self.names if part.has(name)]
        if len(names) > 1:
            part.refuse(f"{' and '.join(names)} are given together: {self._message}", names[-1])
        elif self.required and not names:
            part.refuse(self._message)

    @property
    def cel(self) -> CelRule:
        given = [f"has(self.{name})" for name in self.names]
        if not self.required:
            rule = f"!({' && '.join(given)})"
        elif len(given) == 2:
            rule = " != ".join(given)
        else:
            rule = f"[{', '.join(given)}].exists_one(given, given)"
        return {"rule": rule, "message": self._message}

    @property
    def _message(self) -> str:
        listed = f"{', '.join(self.names[:-1])} and {self.names[-1]}"
        return f"give {'exactly' if self.required else 'at most'} one of {listed}"


@dataclass(frozen=True)
class Refuse:
    """The rule that a mapping is refused if a predicate holds. The error is reported at the field ``at``, or
    at the mapping if ``at`` is empty."""

    when: Predicate
    message: str
    at: Path = ()

    def check(self, part: Part) -> None:
        if self.when.holds(part):
            part.refuse(self.message, *self.at)

    @property
    def cel(self) -> CelRule:
        """The rule in CEL. If the error is in an entry of a list, CEL can only report it at the list."""
        rule = {"rule": (~self.when).cel("self"), "message": self.message}
        field = "".join(f".{name}" for name in takewhile(lambda name: isinstance(name, str), self.at))
        return rule | ({"fieldPath": field} if field else {})


@dataclass(frozen=True)
class Keys:
    """The rule that each key of the map ``field`` contains a match of ``pattern`` or, with ``never``, that no
    key contains one."""

    field: str
    pattern: str
    message: str
    never: bool = False

    def check(self, part: Part) -> None:
        for key in part.part(self.field).value or {}:
            if isinstance(key, str) and bool(re.search(self.pattern, key)) is self.never:
                part.refuse(self.message, self.field, key)

    @property
    def cel(self) -> CelRule:
        name = f"self.{self.field}"
        test = f"{'!' if self.never else ''}{cel_matches('key', self.pattern)}"
        return {
            "rule": f"!has({name}) || {name}.all(key, {test})",
            "message": self.message,
            "fieldPath": f".{self.field}",
        }


@dataclass(frozen=True)
class Known:
    """The rule that the map ``field`` has only the keys ``keys``. If ``instead`` has another key, the message
    names the field to use instead of this key."""

    field: str
    keys: tuple[str, ...]
    instead: Mapping[str, str]

    def check(self, part: Part) -> None:
        for key in part.part(self.field).value or {}:
            if key in self.instead:
                part.refuse(f"use the field {self.instead[key]}, or leave it out", self.field, key)
            elif key not in self.keys:
                part.refuse(self._message, self.field, str(key))

    @property
    def cel(self) -> CelRule:
        name = f"self.{self.field}"
        return {
            "rule": f"!has({name}) || {name}.all(key, key in {list(self.keys)})",
            "message": self._message,
            "fieldPath": f".{self.field}",
        }

    @property
    def _message(self) -> str:
        return (
            f"may only have {', '.join(self.keys)}: set other arguments by their own field "
            f"(learning_rate is learningRate), or leave them out"
        )


@dataclass(frozen=True)
class Refers:
    """The rule that each entry of the list ``field`` has the ``name`` of an entry of the list ``to`` in its
    field ``key``, which may be nested. An entry without this field refers to nothing. With ``among``, the
    predicate must hold for the other entry, and ``must_be`` describes it. With ``when``, the rule is only
    about entries for which that predicate holds."""

    field: str
    to: str
    key: str = "name"
    among: Predicate | None = None
    must_be: str = ""
    when: Predicate | None = None

    def check(self, part: Part) -> None:
        if part.has(self.to) and part.get(self.to) is None:
            return
        others = part.parts(self.to)
        if any(entry.text("name") is None for entry in others):
            return  # a name that cannot be read may be the missing one
        known = {
            entry.text("name") for entry in others if not self.among or self.among.holds(entry) is not False
        }
        for entry in part.parts(self.field):
            holder, name = nested(entry, self.key)
            text = holder.text(name)
            if text is not None and text not in known and (not self.when or self.when.holds(entry)):
                entry.refuse(f"{text} is not in {self.to}: {self._message}", *self.key.split("."))

    @property
    def cel(self) -> CelRule:
        field, to = f"self.{self.field}", f"self.{self.to}"
        same = f"b.name == a.{self.key}" + (f" && {self.among.cel('b')}" if self.among else "")
        known = f"has({to}) && {to}.exists(b, {same})"
        applies = given(self.key) & self.when if self.when else given(self.key)
        rule = known if self.key == "name" else f"{(~applies).cel('a')} || {known}"
        return {
            "rule": f"!has({field}) || {field}.all(a, {rule})",
            "message": self._message,
            "fieldPath": f".{self.field}",
        }

    @property
    def _message(self) -> str:
        kind = f" {self.must_be}" if self.must_be else ""
        return (
            f"each {self.key} must be one of {self.to}{kind}: add the missing entry to {self.to}, or remove "
            "this entry"
        )


@dataclass(frozen=True)
class Unique:
    """The rule that the list ``field`` has no duplicates. If ``key`` is set, the entries must differ in their
    field ``key``; otherwise the entries themselves must differ."""

    field: str
    key: str = ""

    def check(self, part: Part) -> None:
        first: dict[str, Problem] = {}
        for i, value in enumerate(self._values(part)):
            if value in first:
                at = (self.field, i, self.key) if self.key else (self.field, i)
                part.refuse(f"{value} is already used by {first[value].where}: {self._message}", *at)
            elif value is not None:
                first[value] = Problem((*part.path, self.field, i), "")

    @property
    def cel(self) -> CelRule:
        name, key = f"self.{self.field}", f".{self.key}" if self.key else ""
        once = f"{name}.all(a, {name}.exists_one(b, a{key} == b{key}))"
        return {
            "rule": f"!has({name}) || {once}",
            "message": self._message,
            "fieldPath": f".{self.field}",
        }

    def _values(self, part: Part) -> list[str | None]:
        """Return the values that must be unique, one per entry of the list, with None for an invalid
        value."""
        if not self.key:
            return part.texts(self.field)
        entries = {entry.path[-1]: entry.text(self.key) for entry in part.parts(self.field)}
        return [entries.get(i) for i in range(len(part.get(self.field) or ()))]

    @property
    def _message(self) -> str:
        return f"each {self.key or 'entry'} must be unique: change or remove the duplicate"
