"""Infer a JSON schema (draft 2020-12) from values."""

from collections import Counter
from typing import Any

DRAFT = "https://json-schema.org/draft/2020-12/schema"
MAX_CHOICES = 20
"""Strings with more different values get no ``enum``."""
_USES = 10
"""How often each value of an ``enum`` occurs at least, on average. Otherwise, the values are too few to know
that there are no others."""
_CHOICE_LENGTH = 64
"""Maximum length of a value of an ``enum``, in characters."""
_MAX_PROPERTIES = 64
"""An object with more different keys is a map, whose keys are not listed."""
_MAX_DEPTH = 8
"""Values that are nested more deeply are not described."""
_TYPES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}


class ValueSchema:
    """The JSON schema of all values that were added."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._types: Counter[str] = Counter()
        self._texts: dict[str, None] | None = {}
        """The different strings, in the order in which they were added. None if there are too many."""
        self._keys: dict[str, ValueSchema] | None = {}
        """The schemas of the keys of objects. None if there are too many."""
        self._items: ValueSchema | None = None

    def add(self, value: Any) -> None:
        """Add a value, as ``json.loads`` returns it."""
        self._types[_TYPES[type(value)]] += 1
        if isinstance(value, str):
            self._add_text(value)
        elif self._depth < _MAX_DEPTH and isinstance(value, dict):
            self._add_object(value)
        elif self._depth < _MAX_DEPTH and isinstance(value, list):
            self._items = self._items or ValueSchema(self._depth + 1)
            for item in value:
                self._items.add(item)

    def schema(self) -> dict[str, Any]:
        """Return the schema. It accepts every value that was added."""
        types = [name for name in self._types if name != "integer" or "number" not in self._types]
        found: dict[str, Any] = {"type": types[0] if len(types) == 1 else types} if types else {}
        choices = self._choices()
        if choices:
            found["enum"] = [*choices, *([None] if "null" in types else [])]
        if "object" in types and self._depth < _MAX_DEPTH and self._keys is not None:
            every = self._types["object"]
            found["properties"] = {name: inner.schema() for name, inner in self._keys.items()}
            found["required"] = [name for name, inner in self._keys.items() if inner.count == every]
            found["additionalProperties"] = False
        if self._items is not None and self._items.count:
            found["items"] = self._items.schema()
        return found

    @property
    def count(self) -> int:
        """The number of values that were added."""
        return self._types.total()

    def _add_text(self, text: str) -> None:
        if self._texts is not None:
            self._texts[text] = None
            if len(self._texts) > MAX_CHOICES or len(text) > _CHOICE_LENGTH:
                self._texts = None

    def _add_object(self, value: dict[str, Any]) -> None:
        for name, inner in value.items():
            if self._keys is None:
                return
            self._keys.setdefault(name, ValueSchema(self._depth + 1)).add(inner)
            if len(self._keys) > _MAX_PROPERTIES:
                self._keys = None

    def _choices(self) -> list[str]:
        """Return the only values that strings have. Empty if there are others than strings and null, or too
        many different ones."""
        if not self._texts or set(self._types) - {"string", "null"}:
            return []
        return list(self._texts) if self._types["string"] >= _USES * len(self._texts) else []
