"""Reading a spec that may be half wrong, so that one mistake never hides another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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

    def texts(self, name: str) -> list[str | None]:
        """The texts of a list, with None for each entry that is none."""
        value = self.get(name)
        entries = value if isinstance(value, list) else []
        return [entry if isinstance(entry, str) else None for entry in entries]

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

    def _inner(self, value: object, path: Path) -> "Part":
        mapping = value if isinstance(value, Mapping) and path not in self.invalid else None
        return Part(mapping, path, self.invalid, self.problems)
