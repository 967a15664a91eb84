"""Rules about the fields of one mapping. Each is checked here, and written as CEL for the API server.

A rule refuses; the message says what to do instead, in the same words on both sides.
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from tunegate_api.v1alpha1.facts import Fact
from tunegate_api.v1alpha1.parts import Part, Path, Problem

CelRule = dict[str, str]


class Rule(Protocol):
    """One thing that the fields of a mapping must agree on."""

    def check(self, part: Part) -> None:
        """Complain about ``part`` if it breaks the rule."""
        ...

    @property
    def cel(self) -> CelRule:
        """The rule as an entry of ``x-kubernetes-validations``."""
        ...


@dataclass(frozen=True)
class Choice:
    """Fields of which one may be given; ``required``: must be."""

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
    """What is refused when a fact holds: the field ``at``, or the mapping itself."""

    when: Fact
    message: str
    at: Path = ()

    def check(self, part: Part) -> None:
        if self.when.holds(part):
            part.refuse(self.message, *self.at)

    @property
    def cel(self) -> CelRule:
        """CEL can name no entry of a list, so it names the list."""
        rule = {"rule": (~self.when).cel("self"), "message": self.message}
        field = "".join(f".{name}" for name in takewhile(lambda name: isinstance(name, str), self.at))
        return rule | ({"fieldPath": field} if field else {})


@dataclass(frozen=True)
class Unique:
    """A list in which no two entries have the same ``key``; without a key: in which no text stands twice."""

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
        """What must differ, of each entry; None where it cannot be read."""
        if not self.key:
            return part.texts(self.field)
        entries = {entry.path[-1]: entry.text(self.key) for entry in part.parts(self.field)}
        return [entries.get(i) for i in range(len(part.get(self.field) or ()))]

    @property
    def _message(self) -> str:
        return f"each {self.key or 'entry'} once: change one, or leave it out"
