"""Where a model is published: a folder with one sub-folder a version, whole or absent, and ``latest``."""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tunegate_api.contract import FileManifest
from tunegate_api.meta import Sha256
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError, UserError
from tunegate_trainer.process.files import is_complete, read_manifest, refuse_unreadable, remove, seal, verify
from tunegate_trainer.publish.history import LATEST, append, head

logger = logging.getLogger(__name__)

MAX_LOOKS = 10
"""How often ``latest`` is moved on while other jobs publish."""


def target_folder(root: Path, uri: str) -> Path:
    """The folder that ``uri`` stands for, in which every version has its own.

    Raises :class:`UserError` for a URI that cannot be published to, :class:`SourceNotFoundError` for a
    claim that is not there.
    """
    scheme, _, rest = uri.partition("://")
    if scheme not in ("pvc", "file"):
        raise UserError(
            f"spec.publish: {uri}: {scheme}:// is not supported yet", "publish to pvc://CLAIM/PATH"
        )
    if ".." in PurePosixPath(rest).parts:
        raise UserError(f"spec.publish: {uri}: a path must not contain ..")
    if scheme == "file":
        if not rest.startswith("/"):
            raise UserError(f"spec.publish: {uri}: the path must be absolute, as in file:///models/name")
        return Path(rest)
    claim, _, path = rest.partition("/")
    if not claim:
        raise UserError(f"spec.publish: {uri}: name the claim, as in pvc://CLAIM/PATH")
    volume = root / "volumes" / claim
    if not volume.is_dir():
        raise SourceNotFoundError(f"spec.publish: {uri}: there is no PersistentVolumeClaim {claim} here")
    return volume / path


def version_name(job: str, uid: str) -> str:
    """The folder of a job's model below its address: another job with the same name has another one."""
    return f"{job}-{uid[:5]}"


@dataclass(frozen=True)
class Version:
    """What is to be published."""

    artifact: Path
    manifest: FileManifest
    """Which bytes passed: exactly these are copied, or nothing appears."""
    describe: Callable[[Path], None]
    """Adds evidence and model card to the copy."""
    is_described: Callable[[Path], bool]
    """Whether a version that is there already has that evidence, and may stay."""


def publish_version(target: Path, version: Version, writer: Writer) -> None:
    """Copy ``version`` to ``target``. An undamaged version of the same artifact stays as it is.

    Copies that earlier processes of the job began are removed: one that still writes its own finds that it is
    superseded. Raises :class:`UserError` if the version's name belongs to another artifact,
    :class:`StorageError` if it cannot be written, :class:`Superseded` if another process became the writer
    meanwhile.
    """
    with _writable(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        _refuse_folder(target.parent / LATEST)
        _remove_copies(target, writer)
        if _is_published(target, version.manifest) and version.is_described(target):
            logger.info("%s is already published", target.name)
        else:
            _copy(version, target, writer)


def take_away(target: Path, digest: Sha256, writer: Writer) -> None:
    """Remove the version with ``digest`` that was copied and not recorded, and copies that were begun. A
    complete version with another digest stays."""
    with _writable(target.parent):
        _remove_copies(target, writer)
        if not is_complete(target) or read_manifest(target).digest == digest:
            remove(target)


def record_version(target: Path, number: int, digest: Sha256, writer: Writer) -> bool:
    """Make the copied ``target`` publication ``number`` of its folder. False if another one has this number:
    what it is has to be compared with first."""
    with _writable(target.parent):
        writer.check()
        return append(target.parent, number, target.name, digest)


def point_latest(target: Path, writer: Writer) -> None:
    """Let ``latest`` beside ``target`` name the version that was published last.

    That may be another job's, which does the same at the same time: whoever moves the link looks again.
    """
    folder, link = target.parent, target.parent / LATEST
    with _writable(folder):
        for _ in range(MAX_LOOKS):
            newest = head(folder)
            if newest is None or (link.is_symlink() and os.readlink(link) == newest):
                return
            scratch = folder / f".{LATEST}.{target.name}-{writer.epoch:06d}"
            scratch.unlink(missing_ok=True)
            try:
                scratch.symlink_to(newest)
            except OSError as error:
                # Volumes backed by an object store have no links. The version itself is published.
                logger.warning("no link %s: %s", LATEST, error)
                return
            scratch.replace(link)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StorageError(f"{folder} cannot be written: {error}", "who owns the volume's files?") from error


def _remove_copies(target: Path, writer: Writer) -> None:
    writer.check()  # the scratch folder of a later pod is not ours to remove
    for left in target.parent.glob(f".{target.name}.scratch*"):
        remove(left)


def _refuse_folder(latest: Path) -> None:
    if latest.is_dir() and not latest.is_symlink():
        raise UserError(
            f"{latest.parent.name}/{LATEST} is a folder: that name is kept for a link to the last version"
        )


def _is_published(target: Path, manifest: FileManifest) -> bool:
    """Whether this artifact already lies there, whole. A damaged or unfinished version does not count."""
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
            f"this artifact has {manifest.digest}",
            "a published version is never replaced: remove it, or publish under another address",
        )
    return True


def _copy(version: Version, target: Path, writer: Writer) -> None:
    scratch = target.with_name(f".{target.name}.scratch-{writer.epoch:06d}")
    try:
        _fill(scratch, version)
        writer.check()
        # A process that was superseded may have published it as it ended.
        if _is_published(target, version.manifest) and version.is_described(target):
            remove(scratch)
            return
        if target.exists():
            logger.warning("replacing %s, which is damaged, unfinished or compared otherwise", target.name)
            remove(target)
        scratch.rename(target)
    except BaseException:  # SIGTERM too: a full volume should not stay full
        with contextlib.suppress(OSError):
            remove(scratch)
        writer.check()  # what went wrong may be that a later pod removed the scratch folder
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
        raise StorageError(f"the copy of {', '.join(changed)} differs from what was judged")
