"""Access to the parts of a manifest that may have errors, so that one error does not hide another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """An error at one place of a manifest, with a message that describes how to fix the error."""

    path: Path
    """Keys and list positions from the root of the manifest."""
    message: str

    @property
    def where(self) -> str:
        """The path as text: ``spec.stages[0].adapter.r``."""
        return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path).lstrip(".")

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass
class Part:
    """A mapping in a manifest. A value of the wrong type is read as None.

    ``invalid`` has the paths of fields with an error. Such a field counts as given, but has no value. All
    parts of a manifest share ``problems`` and ``invalid``.
    """

    value: Mapping[str, Any] | None
    path: Path
    invalid: frozenset[Path] = frozenset()
    problems: list[Problem] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether the part is given and is a mapping."""
        return self.value is not None

    def has(self, name: str) -> bool:
        """Return whether the field is given. ``null`` counts as not given."""
        return self.value is not None and self.value.get(name) is not None

    def get(self, name: str) -> Any:
        """Return the value of a field. Returns None if the field is not given, or already has an error."""
        if not self.has(name) or (*self.path, name) in self.invalid:
            return None
        return (self.value or {})[name]

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return value if isinstance(value, str) else None

    def texts(self, name: str) -> list[str | None]:
        """Return the entries of the list in a field, with None instead of each entry that is not a string."""
        value = self.get(name)
        entries = value if isinstance(value, list) else []
        return [entry if isinstance(entry, str) else None for entry in entries]

    def part(self, name: str) -> "Part":
        value = self.get(name)
        return self._inner(value, (*self.path, name))

    def parts(self, name: str) -> list["Part"]:
        """Return the mappings in the list in a field. Entries that are not mappings are skipped."""
        value = self.get(name)
        entries = value if isinstance(value, list) else []
        parts = [self._inner(entry, (*self.path, name, i)) for i, entry in enumerate(entries)]
        return [part for part in parts if part]

    def refuse(self, message: str, *names: str | int) -> None:
        """Add a problem with this part, or with the field at the path ``names`` in this part."""
        self.problems.append(Problem((*self.path, *names), message))

    def _inner(self, value: object, path: Path) -> "Part":
        mapping = value if isinstance(value, Mapping) and path not in self.invalid else None
        return Part(mapping, path, self.invalid, self.problems)
