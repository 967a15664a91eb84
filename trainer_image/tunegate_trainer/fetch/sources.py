"""Read data sources: files and ConfigMaps. The plan pins the digest of their content."""

import difflib
import hashlib
import shutil
from pathlib import Path

from tunegate_api.config_map import visible_keys
from tunegate_api.v1alpha1.data import DataSource
from tunegate_trainer.fetch import SCHEMES, Schemes, fetch_file, has_files
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.credentials import Environment, Secret
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, unreadable


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


def read_source(
    context: Context, source: DataSource, field: str, schemes: Schemes = SCHEMES
) -> tuple[str, str]:
    """Return the text of a source and its SHA-256. Errors name ``field``, such as ``data.train``.

    Raises :class:`SourceNotFoundError`, with the names that exist, if the file or key does not exist;
    :class:`BadDataError` if the digest is not the pinned one or the content is not UTF-8; :class:`UserError`
    if permission to read it is denied; and the errors of :mod:`tunegate_trainer.fetch`.
    """
    content = _read_bytes(context, source, field, schemes)
    digest = hashlib.sha256(content).hexdigest()
    if source.sha256 is not None and digest != source.sha256:
        raise BadDataError(
            f"{field}: the file has sha256 {digest}, but the spec pins {source.sha256}",
            "the file has changed since its digest was pinned: check it, and set the new sha256 in a new job",
        )
    try:
        return content.decode("utf-8-sig"), digest  # Windows editors put a byte order mark first
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadDataError(f"{field}: line {line} is not UTF-8", "save the file as UTF-8") from error


def _read_bytes(context: Context, source: DataSource, field: str, schemes: Schemes) -> bytes:
    if source.config_map is not None:
        return _config_map_file(context.root / "inputs" / source.config_map, source, field).read_bytes()
    address = Address(f"{field}.uri", source.uri or "", secret=credentials(context, source.secret_name))
    if has_files(address, schemes):
        return _download(context, address, field, schemes)
    path = locate(context.root, address.uri)
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise SourceNotFoundError(f"{field}: {source.uri} does not exist", _similar_names(path)) from None
    except IsADirectoryError:
        raise SourceNotFoundError(
            f"{field}: {source.uri} is a folder, not a file", "set uri to a JSON Lines file in this folder"
        ) from None
    except PermissionError:
        raise unreadable(f"{field}: {source.uri}") from None


def _download(context: Context, address: Address, field: str, schemes: Schemes) -> bytes:
    """Download the file of a source, and return its content. The downloaded copy is removed."""
    folder = context.workspace / context.paths.download / field
    content = fetch_file(address, folder, schemes).read_bytes()
    shutil.rmtree(folder)
    return content


def _config_map_file(folder: Path, source: DataSource, field: str) -> Path:
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
