"""Provide data sources as local files: files, folders and ConfigMaps. The plan pins the digest of their
content."""

import difflib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunegate_api.config_map import visible_keys
from tunegate_api.contract.digests import files_digest
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.data import Source
from tunegate_trainer.fetch import DATA_SCHEMES, fetch_data
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.credentials import Environment, Secret
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, StorageError, unreadable
from tunegate_trainer.process.files import sha256_file


def locate(root: Path, uri: str, field: str = "") -> Path:
    """Return the path of a pvc:// or file:// URI. Errors contain ``field``, the field of the spec with the
    URI.

    Raises :class:`UserError` for other schemes, a path that leaves its claim, and a relative path.
    """
    address = Address(field, uri)
    if address.scheme == "pvc":
        return address.on_volume(root)
    if address.scheme == "file":
        return address.on_machine("file:///data/train.jsonl")
    raise address.wrong(f"{address.scheme}:// is not supported here", "use pvc:// or a ConfigMap")


def credentials(context: Context, name: str | None) -> Secret | None:
    """Return the Secret called ``name``, with which a source is read.

    Returns None if the spec gives no name, or if no Secret of that name is mounted, as on a laptop. Client
    libraries then look for credentials in the environment.
    """
    secret = context.secret(name) if name else None
    return None if isinstance(secret, Environment) else secret


@dataclass(frozen=True)
class LocalSource:
    """A data source on this machine. It is a file, or a folder with the files of a data set."""

    path: Path
    sha256: Sha256
    """The digest of the file. For a folder, see :func:`_folder_digest`."""


@contextmanager
def open_source(context: Context, source: Source, field: str) -> Iterator[LocalSource]:
    """Provide a source as a local file or folder, with its digest. Errors name ``field``, such as
    ``data.sources[invoices]``.

    The content is hashed in blocks and never held in memory. Downloaded files are removed at the end of the
    ``with`` block. Raises :class:`SourceNotFoundError`, with the names that exist, if the file or key does
    not exist; :class:`BadDataError` if the digest is not the pinned one; :class:`UserError` if permission to
    read it is denied; :class:`StorageError` if the content changed while it was read; and the errors of
    :mod:`tunegate_trainer.fetch`.
    """
    with _local_path(context, source, field) as path:
        named = source.uri or f"ConfigMap {source.config_map}"
        try:
            before = _state(path)
            digest = _folder_digest(path) if path.is_dir() else sha256_file(path)
        except (FileNotFoundError, NotADirectoryError):
            raise SourceNotFoundError(f"{field}: {named} does not exist", _similar_names(path)) from None
        except PermissionError:
            raise unreadable(f"{field}: {named}") from None
        if source.sha256 is not None and digest != source.sha256:
            what = "folder" if path.is_dir() else "file"
            raise BadDataError(
                f"{field}: the {what} has sha256 {digest}, but the spec pins {source.sha256}",
                f"the {what} has changed since its digest was pinned: check it, and set the new sha256 in a "
                "new job",
            )
        yield LocalSource(path, digest)
        if _has_changed(path, before):
            raise StorageError(
                f"{field}: {named} changed while it was read", "do not change the data while a job reads it"
            )


@contextmanager
def _local_path(context: Context, source: Source, field: str) -> Iterator[Path]:
    """Provide the path of a source, which need not exist. A remote file or folder is downloaded, and
    removed at the end."""
    if source.config_map is not None:
        yield _config_map_file(context.root / "inputs" / source.config_map, source, field)
        return
    address = Address(f"{field}.uri", source.uri or "", secret=credentials(context, source.secret_name))
    if address.scheme not in DATA_SCHEMES:
        path = locate(context.root, address.uri, address.field)
        for folder in _real_folders(path):
            address.refuse_reserved(context.root, folder)
        yield path
        return
    folder = context.workspace / context.paths.download / field
    path = fetch_data(address, folder)  # if this fails, the next attempt resumes the download
    try:
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def source_files(folder: Path) -> list[Path]:
    """Return the files in a folder and its sub-folders, sorted by their relative path. Hidden files and
    folders, whose names begin with a dot, are left out."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _real_folders(path: Path) -> set[Path]:
    """Return the folders that contain the files of a source, also those to which links in it lead. Returns
    none for a source that is no folder or cannot be read, which is reported when it is read."""
    try:
        return {file.resolve().parent for file in source_files(path)} if path.is_dir() else set()
    except (OSError, RuntimeError):  # RuntimeError: a loop of links, in Python before 3.13
        return set()


def _raise(error: OSError) -> None:
    raise error


def _folder_digest(folder: Path) -> Sha256:
    """Return the digest of a folder: that of :func:`files_digest` over the relative paths and the digests of
    its :func:`source_files`."""
    return files_digest(
        {path.relative_to(folder).as_posix(): sha256_file(path) for path in source_files(folder)}
    )


def _state(path: Path) -> list[tuple[Path, int, int]]:
    """Return the sizes and modification times of the files of a source, to notice a change."""
    files = source_files(path) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files]
    return [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]


def _has_changed(path: Path, before: list[tuple[Path, int, int]]) -> bool:
    try:
        return _state(path) != before
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True


def _config_map_file(folder: Path, source: Source, field: str) -> Path:
    keys = (
        sorted(path.name for path in folder.iterdir() if not path.name.startswith(".."))
        if folder.is_dir()
        else []
    )
    visible = visible_keys(keys)
    if source.key is None and len(visible) == 1:
        return folder / visible[0]
    found = f"ConfigMap {source.config_map} has: {', '.join(keys) or 'no keys'}"
    if source.key is None:
        raise SourceNotFoundError(
            f"{field}: key is not set, so ConfigMap {source.config_map} must have exactly one key",
            f"set {field}.key; {found}",
        )
    if source.key not in keys:
        raise SourceNotFoundError(f"{field}: ConfigMap {source.config_map} has no key {source.key}", found)
    return folder / source.key


def _similar_names(path: Path) -> str:
    """Return a hint for a missing file: up to five existing names in its folder, similar ones if there are
    any."""
    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder.name}/ does not exist either"
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except PermissionError:
        return f"the folder {folder.name}/ cannot be listed: check the name"
    close = difflib.get_close_matches(path.name, names, n=3) or names[:5]
    return (
        f"{folder.name}/ has, for example: {', '.join(close)}"
        if close
        else f"the folder {folder.name}/ is empty"
    )
