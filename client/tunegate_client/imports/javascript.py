"""Values and texts as JavaScript has them: numbers as text, white space, and YAML files."""

import re
from pathlib import Path
from typing import Any

import yaml

WHITE_SPACE = "\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
"""The characters that ``trim`` removes and ``\\s`` matches (ECMA-262, section 12.2), for a class of a regular
expression."""
_AT_ENDS = re.compile(f"^[{WHITE_SPACE}]+|[{WHITE_SPACE}]+\\Z")
_SEPARATORS = re.compile("[\u0085\u2028\u2029]")
MAX_SAFE = 2**53
"""Integers up to this number are exact as a double."""


def trimmed(text: str) -> str:
    """Return ``text`` as ``String.prototype.trim`` does."""
    return _AT_ENDS.sub("", text)


def text_of(value: object) -> str | None:
    """Return what ``String`` returns for a text, a number or a boolean, and None for other values and for
    numbers that have another text in JavaScript than in Python."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and abs(value) < MAX_SAFE:
        if value == int(value):
            return str(int(value))
        shown = repr(value)
        return None if "e" in shown else shown
    return None


class _YamlLoader(yaml.SafeLoader):
    """Reads YAML like js-yaml: with the core schema of YAML 1.2, merge keys and timestamps."""


_YamlLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"0o[0-7]+|0x[0-9a-fA-F]+|[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("merge", r"<<", "<"),
    (
        "timestamp",
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
        r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?"
        r"(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?",
        "0123456789",
    ),
):
    firsts = [*_first, ""] if _tag == "null" else list(_first)
    _YamlLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), firsts)


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    if text.startswith("0o"):
        return int(text[2:], 8)
    if text.startswith("0x"):
        return int(text[2:], 16)
    if text.lstrip("-+").isdigit():
        return int(text)
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    """Return a text. JavaScript has an escaped surrogate pair as one character."""
    text: str = loader.construct_scalar(node)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    """Return a mapping with texts as keys. js-yaml refuses a key that occurs twice."""
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} occurs twice", key.start_mark
                )
            seen.add(key.value)
    loader.flatten_mapping(node)
    found: dict[str, Any] = {}
    for key, value in node.value:
        name = text_of(loader.construct_object(key, deep=True))
        if name is None:
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a text, a number or a boolean", key.start_mark
            )
        found[name] = loader.construct_object(value, deep=True)
    return found


_YamlLoader.add_constructor("tag:yaml.org,2002:str", _text)
_YamlLoader.add_constructor("tag:yaml.org,2002:int", _number)
_YamlLoader.add_constructor("tag:yaml.org,2002:float", _number)
_YamlLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_yaml(text: str) -> Any:
    """Return the value of a YAML or JSON text as js-yaml reads it. Raises yaml.YAMLError."""
    if separator := _SEPARATORS.search(text):
        name = f"U+{ord(separator[0]):04X}"
        raise yaml.YAMLError(f"has the character {name}, which is a line end only in YAML 1.1: escape it")
    try:
        loader = _YamlLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (ValueError, RecursionError) as error:  # such as a date that does not exist
        raise yaml.YAMLError(str(error)) from error


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file with its line ends. Raises OSError and UnicodeDecodeError."""
    return path.read_bytes().decode()
