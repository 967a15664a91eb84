"""Store objects as readable files: ``<root>/<Kind>/<namespace>/<name>.yaml``.

A Secret's file can be read only by the user who owns the file.
"""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from tunegate_operator.engine.cluster import ClusterError, Key, Object

_FIRST, _LAST = ("apiVersion", "kind", "metadata", "spec"), ("status",)


class _ObjectLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # no stub for the C one
    """PyYAML's safe loader: the fast one if libyaml is installed."""


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes YAML in block style without aliases, and strings with several lines as literal blocks."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


_NOT_TEXT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?0[bBoOxX][0-9a-fA-F_]+|[yYnN]"
)
"""Matches strings that kubectl would read as numbers or booleans if they were not quoted, although PyYAML
would not quote all of them."""


def _represent_text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else "'" if _NOT_TEXT.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(obj: Object) -> str:
    """Return an object as YAML. The order of fields is apiVersion, kind, metadata, spec, other fields,
    status."""
    middle = [field for field in obj if field not in (*_FIRST, *_LAST)]
    ordered = {field: obj[field] for field in (*_FIRST, *middle, *_LAST) if field in obj}
    text: str = yaml.dump(
        ordered, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=110
    )
    return text


def from_yaml(text: str) -> Any:
    """Parse YAML. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_ObjectLoader)  # noqa: S506 - a safe loader


def write_atomically(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file atomically: after a power failure, its content is complete or unchanged. Raises OSError.

    A ``private`` file can be read only by its owner.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        if private:
            os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ObjectFolder:
    """Loads and saves the files of an object store."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def load(self) -> list[Object]:
        """Load all objects. Raises ClusterError with the file's name if a file is not a valid object."""
        objects = []
        for path in sorted(self._root.glob("*/*/*.yaml")):
            if path.name.startswith("."):  # left by an interrupted write
                path.unlink()
                continue
            objects.append(self.load_file(path))
        return objects

    def files(self, kind: str) -> list[Path]:
        """Return the files of the objects of a kind, sorted by namespace and name."""
        return sorted(path for path in self._root.glob(f"{kind}/*/*.yaml") if not path.name.startswith("."))

    def file(self, key: Key) -> Path:
        """Return the path of an object's file."""
        return self._root / key.kind / key.namespace / f"{key.name}.yaml"

    def load_file(self, path: Path) -> Object:
        """Load one object. Raises FileNotFoundError and ClusterError."""
        try:
            obj: Object = from_yaml(path.read_text(encoding="utf-8"))
            if self.file(Key.of(obj)) != path:
                raise ClusterError(
                    f"{path}: the object's kind, namespace or name does not match the path of the file"
                )
        except FileNotFoundError:
            raise
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
            raise ClusterError(f"{path} cannot be read: {error!r}") from error
        return obj

    def save(self, obj: Object) -> None:
        """Write one object. Raises ClusterError, for example if the disk is full."""
        path = self.file(Key.of(obj))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, to_yaml(obj).encode(), private=obj["kind"] == "Secret")
        except OSError as error:
            raise ClusterError(f"{path} cannot be written: {error}") from error

    def remove(self, key: Key) -> None:
        """Remove one object's file, if it exists. Raises ClusterError."""
        path = self.file(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ClusterError(f"{path} cannot be removed: {error}") from error
