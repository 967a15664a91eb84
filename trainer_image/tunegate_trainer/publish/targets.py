"""Where a model is published: a folder with one sub-folder a version, whole or absent, and ``latest``."""

import contextlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tunegate_api.contract import FileManifest
from tunegate_trainer.errors import SourceNotFoundError, StorageError, UserError
from tunegate_trainer.files import is_complete, read_manifest, refuse_unreadable, remove, seal, verify
from tunegate_trainer.writer import Writer

logger = logging.getLogger(__name__)

LATEST = "latest"
"""A symbolic link to the version that was published last."""


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


def publish_version(
    target: Path,
    artifact: Path,
    manifest: FileManifest,
    describe: Callable[[Path], None],
    writer: Writer,
) -> None:
    """Copy ``artifact`` to ``target``, with what ``describe`` adds, and let ``latest`` beside it point there.

    ``manifest`` says which bytes passed: exactly these are copied, or nothing appears. An undamaged version
    of the same artifact stays as it is. Copies that earlier processes of the job began are removed: one that
    still writes its own finds that it is superseded. Raises :class:`UserError` if the version's name belongs
    to another artifact, :class:`StorageError` if it cannot be written, :class:`Superseded` if another process
    became the writer meanwhile.
    """
    folder, version = target.parent, target.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writer.check()  # the scratch folder of a later pod is not ours to remove
        for left in folder.glob(f".{version}.scratch*"):
            remove(left)
        if _is_published(target, manifest):
            logger.info("%s is already published", version)
        else:
            _copy(artifact, manifest, target, describe, writer)
        _point_latest(folder, version)
    except PermissionError as error:
        raise StorageError(f"{folder} cannot be written: {error}", "who owns the volume's files?") from error


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


def _copy(
    artifact: Path, manifest: FileManifest, target: Path, describe: Callable[[Path], None], writer: Writer
) -> None:
    scratch = target.with_name(f".{target.name}.scratch-{writer.epoch:06d}")
    try:
        _fill(scratch, artifact, manifest, describe)
        writer.check()
        if _is_published(target, manifest):  # by a process that was superseded as it ended
            remove(scratch)
            return
        if target.exists():
            logger.warning("replacing %s, which is damaged or unfinished", target.name)
            remove(target)
        scratch.rename(target)
    except BaseException:  # SIGTERM too: a full volume should not stay full
        with contextlib.suppress(OSError):
            remove(scratch)
        writer.check()  # what went wrong may be that a later pod removed the scratch folder
        raise


def _fill(scratch: Path, artifact: Path, manifest: FileManifest, describe: Callable[[Path], None]) -> None:
    for name in manifest.files:
        copy = scratch / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact / name, copy)
    describe(scratch)
    copied = seal(scratch, manifest.digest)
    changed = sorted(name for name, digest in manifest.files.items() if copied.files.get(name) != digest)
    if changed:
        raise StorageError(f"the copy of {', '.join(changed)} differs from what was judged")


def _point_latest(folder: Path, version: str) -> None:
    latest, scratch = folder / LATEST, folder / f".{LATEST}.scratch"
    if latest.is_dir() and not latest.is_symlink():
        raise UserError(
            f"{folder.name}/{LATEST} is a folder: that name is kept for a link to the last version"
        )
    scratch.unlink(missing_ok=True)
    try:
        scratch.symlink_to(version)
    except OSError as error:
        # Volumes backed by an object store have no links. The version itself is published.
        logger.warning("no link %s: %s", LATEST, error)
        return
    scratch.replace(latest)
