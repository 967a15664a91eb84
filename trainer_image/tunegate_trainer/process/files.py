"""Write files and folders in such a way that they are complete or do not exist, and verify their digests."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from tunegate_api.contract.digests import FileManifest, files_digest
from tunegate_api.meta import Sha256, StatusModel
from tunegate_trainer.process.errors import StorageError

MANIFEST = "manifest.json"
DONE = "DONE"
"""The marker file that is written last. Readers ignore a folder without it."""
UNREADABLE = "cannot be read"
"""The words in a problem from :func:`verify` that mean that reading a file failed. The file itself may be
undamaged."""
_ADDITIONAL = "is not in the manifest"
"""The words in a problem from :func:`verify` about an additional file."""
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""Errors of file systems that cannot flush a folder, for example because they are backed by an object
store."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""Errors of file systems without hard links."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` to a file atomically, see :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written atomically: a reader sees the whole old file or the whole new file, even
    after a crash. The file is replaced when this block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # a pid may be the same in another pod
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # do not fill a full volume further with each attempt
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_model(path: Path, model: StatusModel) -> None:
    """Write a contract model as readable JSON, atomically."""
    write_atomic(path, model.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")


def create_once(path: Path, text: str) -> bool:
    """Create the file and its folder atomically. Return False if the file already exists with another text.

    The folder is written under a temporary name and then renamed. A rename is atomic and never replaces a
    folder that is not empty. Of several processes, only one succeeds, even on a network file system without
    hard links.
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
            # Another process created it, or our rename succeeded and a network file system lost the answer.
            if path.read_bytes() != text.encode():
                return False
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _flush(folder.parent)
    return True


def link_or_move(path: Path, target: Path) -> None:
    """Create a hard link to a file at ``target``, on the same volume. If hard links are not supported, move
    it.

    The caller removes the file's present folder afterwards. With a hard link, no file is lost in a crash.
    """
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.rename(target)


def weights_digest(files: Mapping[str, Sha256]) -> Sha256:
    """Return one digest of the names and contents of the safetensors files among ``files``."""
    weights = "".join(f"{name} {files[name]}\n" for name in sorted(files) if name.endswith(".safetensors"))
    return hashlib.sha256(weights.encode()).hexdigest()


def seal(folder: Path, digest: Sha256 | None = None) -> FileManifest:
    """Write a manifest with the digest of every file in ``folder``. When all files are on disk, write DONE.

    ``digest`` is written to the manifest as the digest of the folder. By default, it covers all files. Pass
    the digest of the artifact if the folder contains other files besides the artifact.
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
    """Remove a sealed folder. DONE is removed first, so that readers ignore what is left after a crash."""
    (folder / DONE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # another process may remove it too


def is_complete(folder: Path) -> bool:
    return (folder / DONE).is_file()


def read_manifest(folder: Path) -> FileManifest:
    """Return the manifest of a sealed folder."""
    return FileManifest.model_validate_json((folder / MANIFEST).read_bytes())


def verify(folder: Path) -> list[str]:
    """Return how a sealed folder differs from its manifest: missing, changed, unreadable and additional
    files.

    Each difference is a text of one line. Nothing is raised, even for a damaged manifest, because the caller
    may use another folder instead.
    """
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except OSError as error:
        return [f"{MANIFEST} {UNREADABLE}: {error.strerror}"]
    except ValidationError as error:
        return [f"{MANIFEST} is damaged: {str(error).splitlines()[0]}"]
    found = set(_names(folder))
    problems = [f"{name} is missing" for name in sorted(manifest.files.keys() - found)]
    problems += [f"{name} {_ADDITIONAL}" for name in sorted(found - manifest.files.keys())]
    for name in sorted(found & manifest.files.keys()):
        problems += _content_problem(folder, name, manifest.files[name])
    return problems


def refuse_unreadable(what: str, problems: list[str]) -> None:
    """Raise :class:`StorageError` if :func:`verify` could not read a file.

    Call this before the folder is replaced as damaged, because the file may be undamaged.
    """
    if any(UNREADABLE in problem for problem in problems):
        raise StorageError(
            f"{what}: {'; '.join(problems)}", "check the storage volume, and the node that it is mounted on"
        )


def refuse_additional(what: str, problems: list[str]) -> None:
    """Raise :class:`StorageError` if :func:`verify` found additional files, but no damaged ones. A library
    that loads the folder could read these files."""
    if problems and all(_ADDITIONAL in problem for problem in problems):
        raise StorageError(
            f"{what}: {'; '.join(problems)}",
            "remove these files from the storage volume: Tunegate did not write them",
        )


def _content_problem(folder: Path, name: str, digest: Sha256) -> list[str]:
    try:
        same = sha256_file(folder / name) == digest
    except OSError as error:
        return [f"{name} {UNREADABLE}: {error.strerror}"]
    return [] if same else [f"{name} does not match its digest"]


def _names(folder: Path) -> list[str]:
    """Return the sorted paths relative to ``folder`` of all files except the manifest and the marker."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in (MANIFEST, DONE))


def _folders(folder: Path) -> list[Path]:
    return [*(path for path in folder.rglob("*") if path.is_dir()), folder]


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if not path.is_dir() or error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(file)
