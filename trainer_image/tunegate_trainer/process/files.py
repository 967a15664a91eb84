"""Files that are whole or absent, and their digests."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract import FileManifest, files_digest
from tunegate_api.meta import Sha256, StatusModel
from tunegate_trainer.process.errors import StorageError

MANIFEST = "manifest.json"
DONE = "DONE"
"""The marker that is written last. A folder without it does not exist for any reader."""
UNREADABLE = "cannot be read"
"""In what :func:`verify` says of a file that may be as it was: its disk, or the way there, failed."""
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What a file system says that cannot flush a folder, such as one in front of an object store."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What a file system says that has no hard links."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # unlike a pid, no other pod's
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:  # a full volume should not get fuller with each attempt
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_model(path: Path, model: StatusModel) -> None:
    """Write a contract model as readable JSON, atomically."""
    write_atomic(path, model.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")


def create_once(path: Path, text: str) -> bool:
    """Create the file with ``text`` in a folder of its own, both at once. False if the folder has it already.

    The folder is written under another name and renamed. A rename is atomic and never replaces a folder that
    is not empty, so one of several processes succeeds, also on a network file system and without hard links.
    """
    folder = path.parent
    scratch = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        write_atomic(scratch / path.name, text)
        _flush(scratch)
        try:
            scratch.rename(folder)
        except OSError:
            if not path.exists():
                raise
            # Another process has created it, or a network file system has lost the answer to our rename.
            if path.read_bytes() != text.encode():
                return False
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _flush(folder.parent)
    return True


def take(path: Path, target: Path) -> None:
    """Put a file, whose own folder will go, at ``target`` of the same volume without copying it: by a link,
    so that a crash loses nothing, or where there are none by moving it."""
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.rename(target)


def weights_digest(files: Mapping[str, Sha256]) -> Sha256:
    """One digest of the safetensors files among ``files``, by name and content: what training has changed."""
    weights = "".join(f"{name} {files[name]}\n" for name in sorted(files) if name.endswith(".safetensors"))
    return hashlib.sha256(weights.encode()).hexdigest()


def seal(folder: Path, digest: Sha256 | None = None) -> FileManifest:
    """Hash every file of ``folder`` into its manifest, and mark it as done once all of it is on the disk.

    ``digest`` is that of the artifact where more was put beside it; else it is of all files.
    """
    files = {name: sha256_file(folder / name) for name in _names(folder)}
    manifest = FileManifest(files=files, digest=digest or files_digest(files))
    write_model(folder / MANIFEST, manifest)
    for path in [*(folder / name for name in files), *_folders(folder)]:
        _flush(path)
    write_atomic(folder / DONE, "")
    _flush(folder)
    return manifest


def remove(folder: Path) -> None:
    """Remove a sealed folder: its marker first, so that what a crash leaves exists for no reader."""
    (folder / DONE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # another process may remove it too


def is_complete(folder: Path) -> bool:
    return (folder / DONE).is_file()


def read_manifest(folder: Path) -> FileManifest:
    """The manifest of a sealed folder."""
    return FileManifest.model_validate_json((folder / MANIFEST).read_bytes())


def verify(folder: Path, *, beside: Collection[str] = ()) -> list[str]:
    """How a sealed folder differs from its manifest: missing, changed or additional files, one line each.

    ``beside`` names sub-folders that were put there later and are no part of it. Whatever is wrong, the
    manifest included, is reported and not raised: a reader can turn to another folder.
    """
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except OSError as error:
        return [f"{MANIFEST} {UNREADABLE}: {error.strerror}"]
    except ValidationError as error:
        return [f"{MANIFEST} is damaged: {str(error).splitlines()[0]}"]
    found = {name for name in _names(folder) if name.partition("/")[0] not in beside}
    problems = [f"{name} is missing" for name in sorted(manifest.files.keys() - found)]
    problems += [f"{name} is not in the manifest" for name in sorted(found - manifest.files.keys())]
    for name in sorted(found & manifest.files.keys()):
        problems += _content_problem(folder, name, manifest.files[name])
    return problems


def refuse_unreadable(what: str, problems: list[str]) -> None:
    """Raise :class:`StorageError` if a file cannot be read now: what :func:`verify` found may be as it was,
    and is not to be removed."""
    if any(UNREADABLE in problem for problem in problems):
        raise StorageError(
            f"{what}: {'; '.join(problems)}", "check the storage volume, and the node that it is mounted on"
        )


def _content_problem(folder: Path, name: str, digest: Sha256) -> list[str]:
    try:
        same = sha256_file(folder / name) == digest
    except OSError as error:
        return [f"{name} {UNREADABLE}: {error.strerror}"]
    return [] if same else [f"{name} does not match its digest"]


def _names(folder: Path) -> list[str]:
    """Every file but the manifest and the marker, relative to ``folder``, in order."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in (MANIFEST, DONE))


def _folders(folder: Path) -> list[Path]:
    return [*(path for path in folder.rglob("*") if path.is_dir()), folder]


def _flush(path: Path) -> None:
    """Let bytes, or the names in a folder, reach the disk before the marker that says they are there."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if not path.is_dir() or error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(file)
