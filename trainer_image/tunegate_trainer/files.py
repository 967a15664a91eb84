"""Files that are whole or absent, and their digests."""

import hashlib
import os
import secrets
from pathlib import Path

from tunegate_api.contract import FileManifest
from tunegate_api.meta import StatusModel

MANIFEST = "manifest.json"
DONE = "DONE"
"""The marker that is written last. A folder without it does not exist for any reader."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # unlike a pid, no other pod's
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_model(path: Path, model: StatusModel) -> None:
    """Write a contract model as readable JSON, atomically."""
    write_atomic(path, model.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")


def weights_digest(folder: Path) -> str:
    """One digest of all safetensors files of a folder, by name and content."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        total.update(f"{path.relative_to(folder)} {sha256_file(path)}\n".encode())
    return total.hexdigest()


def seal(folder: Path) -> FileManifest:
    """Hash every file of ``folder`` into its manifest, then mark it as done. Returns the manifest."""
    files = {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, DONE)
    }
    manifest = FileManifest(files=files, digest=weights_digest(folder))
    write_model(folder / MANIFEST, manifest)
    write_atomic(folder / DONE, "")
    return manifest


def is_complete(folder: Path) -> bool:
    return (folder / DONE).is_file()


def read_manifest(folder: Path) -> FileManifest:
    """The manifest of a sealed folder."""
    return FileManifest.model_validate_json((folder / MANIFEST).read_bytes())


def verify(folder: Path) -> list[str]:
    """How a sealed folder differs from its manifest: missing, changed or additional files, one line each."""
    manifest = read_manifest(folder)
    found = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (MANIFEST, DONE)
    }
    problems = [f"{name} is missing" for name in sorted(manifest.files.keys() - found)]
    problems += [f"{name} is not in the manifest" for name in sorted(found - manifest.files.keys())]
    problems += [
        f"{name} does not have its digest"
        for name in sorted(found & manifest.files.keys())
        if sha256_file(folder / name) != manifest.files[name]
    ]
    return problems
