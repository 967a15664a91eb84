"""Read manifests from YAML files, with the line number of each value.

Values get the types that ``kubectl`` gives them, which differ from PyYAML's defaults: ``2e-4`` is a number,
and a date or ``1:30`` is a string. Duplicate keys and keys that are not strings are refused, although YAML
allows them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from tunegate_api import GROUP
from tunegate_api.meta import shorten
from tunegate_api.validation.problems import KINDS

ObjectPath = tuple[str | int, ...]
"""The path of a value in an object: the keys and list indexes from the top."""

SUFFIXES = (".yaml", ".yml")
IDENTITY = {"apiVersion", "kind"}
"""The fields that make a YAML document a manifest."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""Matches a single surrogate character, which YAML accepts, but which is not valid text."""
MAX_NODES = 200_000
"""Limit of the values in one document, because a few nested aliases can expand to any number of values."""
_SHOWN = 40
"""Maximum length of a value that a message quotes."""


@dataclass(frozen=True)
class Diagnostic:
    """An error or a note about one line of a file."""

    file: Path
    line: int
    """The line number, counted from 1."""
    message: str
    severity: Literal["error", "note"] = "error"

    def __str__(self) -> str:
        note = "" if self.severity == "error" else "note: "
        return f"{self.file}:{self.line}: {note}{self.message}"


class ManifestError(Exception):
    """Files cannot be read as manifests. ``diagnostics`` has all faults in all files."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = sorted(diagnostics, key=lambda d: (d.file, d.line))
        super().__init__("\n".join(str(d) for d in self.diagnostics))


@dataclass(frozen=True)
class Manifest:
    """One object in a file."""

    obj: dict[str, Any]
    file: Path
    lines: Mapping[ObjectPath, int]
    """The line number of each key and each list entry, counted from 1."""
    blocks: frozenset[ObjectPath] = field(default=frozenset())
    """Paths of literal block scalars (``|``). Each line of such a text is one line in the file."""

    @property
    def kind(self) -> str:
        return str(self.obj.get("kind") or "")

    @property
    def is_ours(self) -> bool:
        """Whether the kind or the API group of the manifest is one of Tunegate's, even if the other does not
        match."""
        return self.kind in KINDS or str(self.obj.get("apiVersion")).startswith(f"{GROUP}/")

    @property
    def name(self) -> str:
        return str(self._metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        return str(self._metadata.get("namespace") or "default")

    def line_of(self, path: ObjectPath) -> int:
        """Return the line of a value, or of the nearest parent that has one."""
        return next(self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines)

    def line_in(self, path: ObjectPath, line: int) -> int:
        """Return the line number in the file of a line of the text at ``path``. ``line`` is its line number
        in this text. If the text is not a literal block scalar, return the line at which the text begins."""
        return self.line_of(path) + (line if path in self.blocks else 0)

    def at(self, path: ObjectPath, message: str, severity: Literal["error", "note"] = "error") -> Diagnostic:
        """Return a diagnostic about the value at ``path``."""
        return Diagnostic(self.file, self.line_of(path), message, severity)

    @property
    def _metadata(self) -> Mapping[str, Any]:
        metadata = self.obj.get("metadata")
        return metadata if isinstance(metadata, Mapping) else {}


def load_manifests(paths: Iterable[Path]) -> list[Manifest]:
    """Read the manifests in ``paths``, in order. A path is a file, or a folder whose YAML files are read.

    A file in ``paths`` must contain only manifests. In the files of a folder, a YAML document is skipped
    unless it has apiVersion and kind, or one of these two is Tunegate's. Raises :class:`ManifestError` with
    all faults in all files.
    """
    manifests: list[Manifest] = []
    faults: list[Diagnostic] = []
    for path in paths:
        try:
            manifests += _load_folder(path) if path.is_dir() else _load_file(path)
        except ManifestError as error:
            faults += error.diagnostics
    if faults:
        raise ManifestError(faults)
    return manifests


def _load_folder(folder: Path) -> list[Manifest]:
    manifests: list[Manifest] = []
    faults: list[Diagnostic] = []
    for file in sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file()):
        try:
            manifests += [m for m in read_documents(file) if _is_manifest(m)]
        except ManifestError as error:
            faults += error.diagnostics
    if not manifests and not faults:
        faults.append(
            Diagnostic(
                folder, 1, "no manifests in this folder: it needs .yaml files with apiVersion and kind"
            )
        )
    if faults:
        raise ManifestError(faults)
    return manifests


def _load_file(file: Path) -> list[Manifest]:
    manifests = read_documents(file)
    if not manifests:
        raise ManifestError([Diagnostic(file, 1, "the file is empty")])
    faults = [m.at((), f"not a manifest: {_missing(m)}") for m in manifests if not _is_manifest(m)]
    if faults:
        raise ManifestError(faults)
    return manifests


def _is_manifest(manifest: Manifest) -> bool:
    return manifest.is_ours or not _unidentified(manifest)


def _unidentified(manifest: Manifest) -> list[str]:
    """Return the fields of ``IDENTITY`` that a manifest lacks, or that are not text."""
    return sorted(
        name for name in IDENTITY if not isinstance(manifest.obj.get(name), str) or not manifest.obj[name]
    )


def _missing(manifest: Manifest) -> str:
    missing = _unidentified(manifest)
    verb = "are missing" if len(missing) > 1 else "is missing"
    return f"{' and '.join(missing)} {'must be text' if any(map(manifest.obj.get, missing)) else verb}"


def read_documents(file: Path) -> list[Manifest]:
    """Return the documents in a YAML file. Empty documents are skipped. Raises :class:`ManifestError`."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ManifestError([Diagnostic(file, 1, f"the file cannot be read: {reason}")]) from error
    except UnicodeDecodeError as error:
        raise ManifestError([Diagnostic(file, 1, "the file cannot be read: it is not UTF-8 text")]) from error
    try:
        return list(_documents(file, text))
    except yaml.MarkedYAMLError as error:
        raise ManifestError([Diagnostic(file, _error_line(error), _error_text(error))]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        raise ManifestError([Diagnostic(file, line, message)]) from error
    except RecursionError as error:
        raise ManifestError([Diagnostic(file, 1, "not a manifest: it is nested too deeply")]) from error


def _documents(file: Path, text: str) -> Iterator[Manifest]:
    loader = _Loader(text)
    faults: list[Diagnostic] = []
    try:
        while loader.check_node() and (node := loader.get_node()):
            walk = _Walk(file)
            walk.visit(node, (), node.start_mark.line + 1)
            faults += walk.faults
            if faults:
                continue
            obj = loader.construct_document(node)
            if obj is None:
                continue
            if not isinstance(obj, dict):
                faults.append(
                    Diagnostic(file, node.start_mark.line + 1, "not a manifest: it must be a mapping")
                )
                continue
            yield Manifest(_without_nulls(obj), file, walk.lines, frozenset(walk.blocks))
    finally:
        loader.dispose()
    if faults:
        raise ManifestError(faults)


def _without_nulls(obj: dict[str, Any]) -> dict[str, Any]:
    """Return the object without the metadata fields that have no value, such as an empty ``annotations:``.
    ``kubectl`` drops these fields, too."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return obj
    return obj | {"metadata": {key: value for key, value in metadata.items() if value is not None}}


def _error_line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _error_text(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be parsed"
    if "'\\t'" in problem:
        return "not YAML: indent with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return "not YAML: unexpected colon; put quotes around the text, or check the indentation"
    context = (
        f" ({error.context}, line {error.context_mark.line + 1})"
        if error.context and error.context_mark
        else ""
    )
    return f"not YAML: {problem}{context}"


class _Loader(yaml.SafeLoader):
    """A YAML loader that gives plain scalars the types that ``kubectl`` gives them."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    bool_values: ClassVar = {**yaml.SafeLoader.bool_values, "y": True, "n": False}

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node. Raises MarkedYAMLError if the node has no value of its type, for which
        PyYAML raises various other errors."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, AttributeError, IndexError) as error:
            shown = shorten(str(node.value), _SHOWN) or "an empty value"
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                problem=f"{shown} cannot be read as {kind}", problem_mark=node.start_mark
            ) from error

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return the number. Unlike PyYAML, accept 0o and upper-case prefixes."""
        text = self.construct_scalar(node).replace("_", "").lower()
        is_octal = re.fullmatch(r"[-+]?0[0-7]+", text)
        return int(text, 8 if is_octal else 0)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


for _tag, _pattern, _first in (
    (
        "bool",
        r"^(?:y|Y|n|N|yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$",
        "yYnNtTfFoO",
    ),
    ("int", r"^[-+]?(?:0[bB][01_]+|0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[0-7_]*|[1-9][0-9_]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("merge", r"^(?:<<)$", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), ["" if c == "\0" else c for c in _first]
    )


class _Walk:
    """Visits the nodes of one YAML document to record their line numbers and collect faults."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._nodes = 0
        self._ancestors: set[int] = set()
        self.lines: dict[ObjectPath, int] = {}
        self.blocks: set[ObjectPath] = set()
        self.faults: list[Diagnostic] = []

    def visit(self, node: yaml.Node, path: ObjectPath, line: int) -> None:
        """Visit a node and its children. ``line`` is the line that diagnostics show for the node: the line of
        its key, or the line at which the list entry begins."""
        self.lines.setdefault(path, line)
        self._nodes += 1
        if id(node) in self._ancestors or self._nodes > MAX_NODES:
            is_recursive = id(node) in self._ancestors
            what = "an alias that contains itself" if is_recursive else f"more than {MAX_NODES:,} values"
            raise ManifestError([Diagnostic(self._file, node.start_mark.line + 1, f"not a manifest: {what}")])
        self._ancestors.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for i, entry in enumerate(node.value):
                self.visit(entry, (*path, i), entry.start_mark.line + 1)
        elif isinstance(node, yaml.ScalarNode):
            self._scalar(node, path, line)
        self._ancestors.discard(id(node))

    def _scalar(self, node: yaml.ScalarNode, path: ObjectPath, line: int) -> None:
        if node.style == "|":
            self.blocks.add(path)
            self.lines[path] = node.start_mark.line + 1
        self._characters(node, line)

    def _characters(self, node: yaml.ScalarNode, line: int) -> None:
        if SURROGATE.search(node.value):
            self._fault(line, "\\uD800 to \\uDFFF are not characters: write the character itself")

    def _mapping(self, node: yaml.MappingNode, path: ObjectPath) -> None:
        first_lines: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            if key.tag != "tag:yaml.org,2002:str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a mapping or a list"
                self._fault(line, f"the key {shown} is not a string: put quotes around it")
                continue
            self._characters(key, line)
            if key.value in first_lines:
                self._fault(
                    line,
                    f"duplicate key {key.value}, first in line {first_lines[key.value]}: keep one of them",
                )
            first_lines.setdefault(key.value, line)
            self.visit(value, (*path, key.value), line)
        for other in merged:  # last, because the keys of the mapping itself win over merged ones
            self.visit(other, path, other.start_mark.line + 1)

    def _fault(self, line: int, message: str) -> None:
        self.faults.append(Diagnostic(self._file, line, message))
