"""Convert pydantic's JSON schema to the structural OpenAPI v3 schema that Kubernetes requires in a CRD.

No I/O. A type without a structural form raises :class:`NotStructuralError`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from tunegate_api.meta import RULES_KEY
from tunegate_api.v1alpha2.shares import INT_OR_STRING

Schema = dict[str, Any]

_COPIED = {
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "multipleOf",
    "minProperties",
    "maxProperties",
    INT_OR_STRING,
}
_DROPPED = {"title", "default", "examples", "description"}
_HANDLED = {"properties", "required", "items", "additionalProperties", "const", "$defs", RULES_KEY}
_BOUNDS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}

FREE_FORM: Schema = {"x-kubernetes-preserve-unknown-fields": True}


class NotStructuralError(ValueError):
    """Raised if a type cannot be described by a structural schema."""


def structural_schema(
    model: type[BaseModel],
    validations: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    pattern_descriptions: Mapping[str, str] | None = None,
) -> Schema:
    """Return the structural schema of ``model``: without references, defaults, titles and nulls.

    ``validations`` maps the class names of nested models to their CEL rules. ``pattern_descriptions`` maps
    patterns to descriptions. If a value does not match a pattern, the API server prints only the pattern, so
    an additional rule with the description is added. If it is None, the schema has no patterns. The
    descriptions of fields are their docstrings, or the docstring of the field's class if the field has no
    docstring.
    """
    root = model.model_json_schema(by_alias=True, mode="validation")
    converter = _Converter(root.get("$defs", {}), validations or {}, pattern_descriptions)
    return converter.convert(root, (model.__name__,))


class _Converter:
    """Converts the nodes of one JSON schema."""

    def __init__(
        self,
        definitions: Mapping[str, Schema],
        validations: Mapping[str, Sequence[Mapping[str, str]]],
        pattern_descriptions: Mapping[str, str] | None,
    ) -> None:
        self._definitions = definitions
        self._validations = validations
        self._pattern_descriptions = pattern_descriptions

    def convert(self, node: Schema, path: tuple[str, ...]) -> Schema:
        """Return the structural form of ``node``. ``path`` is the location of the node, for error messages
        and to detect recursion."""
        if "$ref" in node:
            return self._reference(node, path)
        if "anyOf" in node:
            return self._optional(node, path)
        if "oneOf" in node:
            return self._union(node, path)
        unknown = node.keys() - _COPIED - _DROPPED - _HANDLED - _BOUNDS.keys()
        if unknown:
            raise NotStructuralError(f"{'.'.join(path)}: no structural form for {sorted(unknown)}")
        out: Schema = {key: node[key] for key in node.keys() & _COPIED}
        if self._pattern_descriptions is None:
            out.pop("pattern", None)
        if "description" in node:
            out["description"] = " ".join(node["description"].split())
        if "const" in node:
            out["enum"] = [node["const"]]
        for bound, plain in _BOUNDS.items():
            if bound in node:
                out |= {plain: node[bound], bound: True}
        if rules := [*self._pattern_rule(node), *node.get(RULES_KEY, [])]:
            out["x-kubernetes-validations"] = rules
        if "items" in node:
            out["items"] = self.convert(node["items"], (*path, "[]"))
        if INT_OR_STRING in node:
            return out
        return out | self._object(node, path) if "type" in node else out | FREE_FORM

    def _pattern_rule(self, node: Schema) -> list[dict[str, str]]:
        """Return a CEL rule whose message describes the pattern of ``node`` in words.

        Returns no rule if ``node`` has no pattern with a description, may be a number, or has a rule of its
        own that includes the pattern.
        """
        pattern = node.get("pattern", "")
        description = (self._pattern_descriptions or {}).get(pattern)
        included = any(pattern in rule["rule"] for rule in node.get(RULES_KEY, ()))
        if description is None or included or INT_OR_STRING in node:
            return []
        return [{"rule": f"self.matches(r'{pattern}')", "message": f"must be {description}"}]

    def _object(self, node: Schema, path: tuple[str, ...]) -> Schema:
        """Return the part of the schema that describes the content of an object: named fields, a map to
        values of one type, or any content. Empty if ``node`` is not an object."""
        if node["type"] != "object":
            return {}
        if "properties" in node:
            fields = {
                name: self.convert(node["properties"][name], (*path, name)) for name in node["properties"]
            }
            return {"properties": fields} | (
                {"required": sorted(node["required"])} if node.get("required") else {}
            )
        values = node.get("additionalProperties", True)
        if values is True:
            return FREE_FORM
        return {"additionalProperties": self.convert(values, (*path, "*"))}

    def _reference(self, node: Schema, path: tuple[str, ...]) -> Schema:
        name = node["$ref"].removeprefix("#/$defs/")
        if f"<{name}>" in path:
            raise NotStructuralError(f"{'.'.join(path)}: {name} contains itself")
        out = self.convert(self._definitions[name], (*path, f"<{name}>"))
        if "description" in node:
            out["description"] = " ".join(node["description"].split())
        if self._validations.get(name):
            out["x-kubernetes-validations"] = [dict(rule) for rule in self._validations[name]]
        return out

    def _optional(self, node: Schema, path: tuple[str, ...]) -> Schema:
        """Return the schema of ``X`` for a field of type ``X | None``. Such a field is optional, and a null
        value means that the field is omitted."""
        rest = [option for option in node["anyOf"] if option != {"type": "null"}]
        if len(rest) != 1:
            raise NotStructuralError(f"{'.'.join(path)}: a union of {len(rest)} types needs a discriminator")
        around = {key: value for key, value in node.items() if key != "anyOf"}
        return self.convert(rest[0] | around, path)

    def _union(self, node: Schema, path: tuple[str, ...]) -> Schema:
        """Return one object schema with the fields of all options of a discriminated union. A field is
        required if every option requires it."""
        if "discriminator" not in node:
            raise NotStructuralError(f"{'.'.join(path)}: a union needs a discriminator")
        key = node["discriminator"]["propertyName"]
        options = [self.convert(option, path) for option in node["oneOf"]]
        fields: Schema = {}
        for option in options:
            for name, field in option["properties"].items():
                if name == key and name in fields:
                    fields[name]["enum"] = sorted({*fields[name]["enum"], *field["enum"]})
                elif fields.setdefault(name, field) != field:
                    raise NotStructuralError(f"{'.'.join(path)}.{name}: differs between the options")
        required = set.intersection(*(set(option.get("required", [])) for option in options))
        out: Schema = {"type": "object", "properties": fields, "required": sorted(required | {key})}
        return out | ({"description": " ".join(node["description"].split())} if "description" in node else {})
