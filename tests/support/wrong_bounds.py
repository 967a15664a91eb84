"""A value beyond each bound of a schema, such as a maximum, with the expected message."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class WrongValue:
    """A value that breaks one bound of the field at ``path``."""

    path: Path
    value: Any
    message: str
    """The part of the API server's message that names the bound."""

    @property
    def field(self) -> str:
        """The path of the field, as the API server's messages contain it."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
        return text.removeprefix(".")

    def placed(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Set the value at its path, and return the changed manifest."""
        at: Any = manifest
        for part, following in zip(self.path[:-1], self.path[1:], strict=True):
            missing: Any = [] if isinstance(following, int) else {}
            if isinstance(part, int):
                if not at:
                    at.append(missing)
                at = at[0]
            else:
                at = at.setdefault(part, missing)
        if isinstance(self.path[-1], int):
            at[:] = [self.value]
        else:
            at[self.path[-1]] = self.value
        return manifest


def wrong_values(schema: dict[str, Any], path: Path = ()) -> Iterator[WrongValue]:
    """Yield a value for each bound of each field below ``schema``, including items of lists and values of
    maps."""
    for name, field in schema.get("properties", {}).items():
        yield from _beyond(field, (*path, name))
        yield from wrong_values(field, (*path, name))
    for key, part in (("items", 0), ("additionalProperties", "key")):
        inner = schema.get(key)
        if isinstance(inner, dict):
            yield from _beyond(inner, (*path, part))
            yield from wrong_values(inner, (*path, part))


def _beyond(node: dict[str, Any], path: Path) -> Iterator[WrongValue]:
    def wrong(value: Any, message: str) -> WrongValue:
        return WrongValue(path, value, message)

    if "enum" in node:
        yield wrong("none-of-them", f'supported values: "{node["enum"][0]}"')
    if "minimum" in node:
        yield wrong(node["minimum"] - 1, f"greater than or equal to {node['minimum']}")
    if "maximum" in node:
        yield wrong(node["maximum"] + 1, f"less than or equal to {node['maximum']}")
    if node.get("minLength"):
        yield wrong("", f"at least {node['minLength']} chars long")
    if "maxLength" in node and "enum" not in node:
        yield wrong("a" * (node["maxLength"] + 1), f"may not be more than {node['maxLength']} bytes")
    if "pattern" in node:
        yield wrong("\n", "should match")
    if "maxItems" in node:
        item: Any = {} if node["items"].get("type") == "object" else "a"
        yield wrong([item] * (node["maxItems"] + 1), f"must have at most {node['maxItems']} items")
    if node.get("minItems"):
        yield wrong([], f"should have at least {node['minItems']} items")
    if "maxProperties" in node:
        many = {f"key-{i}": "a" for i in range(node["maxProperties"] + 1)}
        yield wrong(many, f"must have at most {node['maxProperties']} items")
