"""A publish target that is a folder, with one sub-folder per version, and the symbolic link ``latest``."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunegate_api.contract.digests import FileManifest
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest
from tunegate_trainer.artifacts.history import (
    LATEST,
    append,
    is_recorded,
    last_number,
    newest_recorded,
    newest_versions,
)
from tunegate_trainer.fetch.address import Address, volume_folder
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import StorageError, UserError
from tunegate_trainer.process.files import is_complete, read_manifest, refuse_unreadable, remove, seal, verify
from tunegate_trainer.publish.targets.target import Version

logger = logging.getLogger(__name__)

MAX_LOOKS = 10
"""Maximum number of times that ``latest`` is checked and moved, because other jobs may move it at the same
time."""


@dataclass(frozen=True)
class FolderTarget:
    """The folder at ``uri``, on a volume or on this machine.

    :mod:`tunegate_trainer.artifacts.history` records the order of its versions.
    """

    uri: str
    folder: Path

    @classmethod
    def open(cls, root: Path, address: Address) -> "FolderTarget":
        """Return the target at a pvc:// or file:// address. The volume must exist, but the folder may be
        missing.

        Raises :class:`UserError` for an address that leaves its volume, leads into the reserved folder or is
        not absolute, and :class:`SourceNotFoundError` for a claim that does not exist.
        """
        if address.scheme == "file":
            if address.has_parent_part:
                raise address.wrong("a path must not contain ..")
            folder = address.on_machine("file:///models/name")
            address.refuse_reserved(root, folder)
            return cls(address.uri, folder)
        folder = address.on_volume(root)
        claim = address.rest.partition("/")[0]
        if not volume_folder(root, claim).is_dir():
            raise address.not_found(f"{address.uri}: the PersistentVolumeClaim {claim} is not mounted")
        return cls(address.uri, folder)

    @property
    def name(self) -> str:
        return self.folder.name

    def contains(self, version: str) -> bool:
        return is_recorded(self.folder, version)

    def read_stable(self) -> int:
        return last_number(self.folder)

    def newest_versions(self, gates: Sequence[GateRequest], own: str) -> dict[str, list[PublishedVersion]]:
        return newest_versions(self.uri, self.folder, gates, own)

    def fetch(self, version: PublishedVersion) -> Path:
        return self.folder / (version.version or "").rpartition("/")[2]

    def upload(self, version: Version, writer: Writer) -> None:
        """Copy ``version`` to the folder.

        Unfinished copies that earlier processes of the job left are removed. If such a process still runs, it
        ends with :class:`Superseded`.
        """
        target = self.folder / version.name
        with _writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _refuse_folder(self.folder / LATEST)
            _remove_copies(target, writer)
            if _is_published(target, version.manifest) and version.is_described(target):
                logger.info("%s is already published", version.name)
            else:
                _copy(version, target, writer)

    def withdraw(self, version: Version, writer: Writer) -> None:
        """Remove the version and unfinished copies. A complete version with another digest is kept."""
        target = self.folder / version.name
        with _writable(self.folder):
            _remove_copies(target, writer)
            if not is_complete(target) or read_manifest(target).digest == version.manifest.digest:
                remove(target)

    def set_stable(self, version: Version, after: int | None, writer: Writer) -> bool:
        with _writable(self.folder):
            if after is not None:
                writer.check()
                if not append(self.folder, after + 1, version.name, version.manifest.digest):
                    return False
            _point_latest(self.folder / version.name, writer)
        return True


def _point_latest(target: Path, writer: Writer) -> None:
    """Point the link ``latest``, beside ``target``, to the version that was published last.

    Another job may publish at the same time and move the link too, so the link is checked again afterwards.
    """
    folder, link = target.parent, target.parent / LATEST
    for _ in range(MAX_LOOKS):
        newest = newest_recorded(folder)
        if newest is None or (link.is_symlink() and os.readlink(link) == newest):
            return
        scratch = folder / f".{LATEST}.{target.name}-{writer.epoch:06d}"
        scratch.unlink(missing_ok=True)
        try:
            scratch.symlink_to(newest)
        except OSError as error:
            # Volumes on an object store have no links. The version itself is published.
            logger.warning("cannot create the link %s: %s", LATEST, error)
            return
        scratch.replace(link)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StorageError(
            f"cannot write to the publish target {folder}: {error}",
            "check that the trainer's user may write to this folder on the volume",
        ) from error


def _remove_copies(target: Path, writer: Writer) -> None:
    writer.check()  # only the current writer may remove scratch folders
    for left in target.parent.glob(f".{target.name}.scratch*"):
        remove(left)


def _refuse_folder(latest: Path) -> None:
    if latest.is_dir() and not latest.is_symlink():
        raise UserError(
            f"{latest.parent.name}/{LATEST} is a folder, but this name is reserved for the link to the "
            "version that "
            "was published last",
            "rename the folder, or publish to another address",
        )


def _is_published(target: Path, manifest: FileManifest) -> bool:
    """Return whether the folder ``target`` already has this artifact, complete and undamaged.

    Raises :class:`UserError` if ``target`` is a complete version of another artifact.
    """
    if not is_complete(target):
        return False
    problems = verify(target)
    refuse_unreadable(target.name, problems)
    if problems:
        return False
    found = read_manifest(target)
    if found.digest != manifest.digest or not manifest.files.items() <= found.files.items():
        raise UserError(
            f"{target.name} is already published with digest {found.digest} and {len(found.files)} files, "
            f"but this artifact has digest {manifest.digest}",
            "a published version is never replaced: remove that version, or publish to another address",
        )
    return True


def _copy(version: Version, target: Path, writer: Writer) -> None:
    scratch = target.with_name(f".{target.name}.scratch-{writer.epoch:06d}")
    try:
        _fill(scratch, version)
        writer.check()
        # A superseded process may have published it just before it ended.
        if _is_published(target, version.manifest) and version.is_described(target):
            remove(scratch)
            return
        if target.exists():
            logger.warning("replacing %s, which is damaged, incomplete or has other evidence", target.name)
            remove(target)
        scratch.rename(target)
    except BaseException:  # also on SIGTERM, so that a full volume does not stay full
        with contextlib.suppress(OSError):
            remove(scratch)
        writer.check()  # the cause may be that a later pod removed the scratch folder
        raise


def _fill(scratch: Path, version: Version) -> None:
    manifest = version.manifest
    for name in manifest.files:
        copy = scratch / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(version.artifact / name, copy)
    version.describe(scratch)
    copied = seal(scratch, manifest.digest)
    changed = sorted(name for name, digest in manifest.files.items() if copied.files.get(name) != digest)
    if changed:
        raise StorageError(
            f"the copy of {', '.join(changed)} at the target differs from the artifact that passed the gates",
            "nothing was published to this address, and the next attempt copies the artifact again: check "
            "the volumes",
        )
