"""Reading a spec that may be half wrong, so that one mistake never hides another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tunegate_api.meta import exact

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong in one place of a manifest, and what to do about it."""

    path: Path
    """Keys and list positions from the top of the manifest, as YAML spells them."""
    message: str

    @property
    def where(self) -> str:
        """The path as people write it: ``spec.stages[0].adapter.r``."""
        return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path).lstrip(".")

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class Choice:
    """Fields of which one may be given; ``required``: must be."""

    names: tuple[str, ...]
    required: bool = True

    @property
    def message(self) -> str:
        listed = f"{', '.join(self.names[:-1])} and {self.names[-1]}"
        return f"give {'exactly' if self.required else 'at most'} one of {listed}"


@dataclass
class Part:
    """A mapping inside a manifest, where values of the wrong type or shape read as not readable (None).

    ``invalid`` has the paths that are already complained about: such a field counts as given, but has no
    value. Parts of one manifest share ``problems`` and ``invalid``.
    """

    value: Mapping[str, Any] | None
    path: Path
    invalid: frozenset[Path] = frozenset()
    problems: list[Problem] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether it was given, as a mapping."""
        return self.value is not None

    def has(self, name: str) -> bool:
        """Whether the field is given. ``null`` is not."""
        return self.value is not None and self.value.get(name) is not None

    def get(self, name: str) -> Any:
        """The field's value; None when it is left out or already complained about."""
        if not self.has(name) or (*self.path, name) in self.invalid:
            return None
        return (self.value or {})[name]

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return value if isinstance(value, str) else None

    def whole(self, name: str) -> int | None:
        value = self.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def number(self, name: str) -> Fraction | None:
        """The exact value of a :data:`~tunegate_api.meta.Decimal`."""
        value = self.text(name)
        return None if value is None else exact(value)

    def part(self, name: str) -> "Part":
        value = self.get(name)
        return self._inner(value, (*self.path, name))

    def parts(self, name: str) -> list["Part"]:
        """The mappings of a list; entries that are none are skipped."""
        value = self.get(name)
        entries = value if isinstance(value, list) else []
        parts = [self._inner(entry, (*self.path, name, i)) for i, entry in enumerate(entries)]
        return [part for part in parts if part]

    def refuse(self, message: str, *names: str | int) -> None:
        """Complain about this part, or about a field in it."""
        self.problems.append(Problem((*self.path, *names), message))

    def choose(self, choice: Choice) -> None:
        """Complain unless the fields of ``choice`` are given as it says."""
        given = [name for name in choice.names if self.has(name)]
        if len(given) > 1:
            self.refuse(f"{' and '.join(given)} are given together: {choice.message}", given[-1])
        elif choice.required and not given:
            self.refuse(choice.message)

    def check_number(
        self,
        name: str,
        *,
        above: int | None = None,
        least: Fraction | int | None = None,
        below: int | None = None,
        most: Fraction | int | None = None,
    ) -> None:
        """Complain when the field is a number outside these bounds."""
        value = self.number(name)
        if value is None:
            return
        low = (
            f"more than {above}"
            if above is not None
            else f"at least {_plain(least)}"
            if least is not None
            else ""
        )
        high = (
            f"less than {below}"
            if below is not None
            else f"at most {_plain(most)}"
            if most is not None
            else ""
        )
        inside = (
            (above is None or value > above)
            and (least is None or value >= least)
            and (below is None or value < below)
            and (most is None or value <= most)
        )
        if not inside:
            self.refuse(f'is "{self.text(name)}": must be {" and ".join(b for b in (low, high) if b)}', name)

    def check_unique(self, name: str, key: str) -> None:
        """Complain about entries of the list ``name`` that repeat the ``key`` of an earlier one."""
        seen: dict[str, Path] = {}
        for entry in self.parts(name):
            value = entry.text(key)
            if value is None:
                continue
            if value in seen:
                entry.refuse(
                    f"{value} is already used by {Problem(seen[value], '').where}: each {key} once", key
                )
            seen.setdefault(value, entry.path)

    def _inner(self, value: object, path: Path) -> "Part":
        mapping = value if isinstance(value, Mapping) and path not in self.invalid else None
        return Part(mapping, path, self.invalid, self.problems)


def _plain(number: Fraction | int | None) -> str:
    return "" if number is None else f"{float(number):g}"
