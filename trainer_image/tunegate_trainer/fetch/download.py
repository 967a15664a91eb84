"""Download files to the volume. Interrupted downloads are resumed. A file has the suffix ``.part`` until it
is complete and verified."""

import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tunegate_trainer.fetch.address import RemoteFile
from tunegate_trainer.fetch.network import Retries, TransientError
from tunegate_trainer.process.errors import BadDataError, StorageError

logger = logging.getLogger(__name__)

PART = ".part"
"""Suffix of a file that is incomplete or not verified yet."""
_LOG_EVERY_SECONDS = 10


def download(field: str, files: Sequence[RemoteFile], folder: Path) -> None:
    """Download ``files`` into ``folder``. Files that exist there under their final name are skipped, because
    they are complete and verified.

    Raises :class:`StorageError` if the volume has no room for them, :class:`BadDataError` if a checksum does
    not match, :class:`UnreachableError` if several retries in a row make no progress, and the errors of the
    scheme's ``read``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not (folder / file.name).is_file()]
    _check_room(field, missing, folder)
    progress = _Progress(field, sum(file.size for file in missing), _held(missing, folder))
    for file in missing:
        _download(field, file, folder, progress)
    progress.end()


def _held(files: Sequence[RemoteFile], folder: Path) -> int:
    """Return the number of bytes of ``files`` that earlier attempts have already downloaded."""
    return sum(min(_size(_part(file, folder)), file.size) for file in files)


def _check_room(field: str, files: Sequence[RemoteFile], folder: Path) -> None:
    needed = sum(file.size for file in files) - _held(files, folder)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{field}: the download needs {gigabytes(needed)}, but the volume has {gigabytes(free)} free",
            "grow the volume, or free space on it",
        )


def _download(field: str, file: RemoteFile, folder: Path, progress: "_Progress") -> None:
    part = _part(file, folder)
    part.parent.mkdir(parents=True, exist_ok=True)
    resumed = _size(part) > 0
    _complete(field, file, part, progress)
    matches = _matches(file, part)
    if not matches and resumed:
        # The part of an earlier attempt may be damaged, for example by a power failure: download all of it.
        part.unlink()
        progress.discard(file.size)
        _complete(field, file, part, progress)
        matches = _matches(file, part)
    if not matches:
        part.unlink()
        raise BadDataError(
            f"{field}: the content of {file.name} does not match the checksum that the server reports",
            "the file is damaged at its source or was changed on the way: check the source and any proxies",
        )
    _flush(part)
    part.rename(folder / file.name)


def _complete(field: str, file: RemoteFile, part: Path, progress: "_Progress") -> None:
    """Download the rest of a file, with retries, until the part has its full size."""
    if _size(part) > file.size:
        part.unlink()
    part.touch()
    retries, furthest = Retries(field), _size(part)
    while _size(part) < file.size:
        try:
            _append(file, part, progress)
            if _size(part) < file.size:
                raise TransientError("the connection ended too early")
        except TransientError as error:
            if _size(part) > furthest:  # servers without ranges start again: only new bytes are progress
                furthest = _size(part)
                retries.reset()
            retries.wait(error)


def _append(file: RemoteFile, part: Path, progress: "_Progress") -> None:
    held = _size(part)
    with file.read(held) as stream, part.open("r+b") as out:
        if stream.start != held:
            progress.discard(held - stream.start)
            out.truncate(stream.start)
        out.seek(stream.start)
        for chunk in stream.chunks:
            if out.tell() + len(chunk) > file.size:
                raise TransientError(f"{file.name} is longer than the server reported")
            out.write(chunk)
            progress.add(len(chunk))


def _matches(file: RemoteFile, path: Path) -> bool:
    if file.checksum is None:
        logger.info("%s: the server reports no checksum; the size matches", file.name)
        return True
    return file.checksum.matches(path)


def _part(file: RemoteFile, folder: Path) -> Path:
    return folder / f"{file.name}{PART}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


class _Progress:
    def __init__(self, field: str, total: int, held: int) -> None:
        self._field, self._total, self._done = field, total, held
        self._started = self._logged = time.monotonic()
        self._received = 0
        if total:
            earlier = f", {gigabytes(held)} already downloaded" if held else ""
            logger.info("%s: downloading %s%s", field, gigabytes(total), earlier)

    def add(self, count: int) -> None:
        self._done += count
        self._received += count
        if time.monotonic() - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            speed = self._received / (self._logged - self._started)
            logger.info(
                "%s: %s of %s, %.0f MB/s, %.0f s left",
                self._field,
                gigabytes(self._done),
                gigabytes(self._total),
                speed / 1e6,
                (self._total - self._done) / speed,
            )

    def discard(self, count: int) -> None:
        """Subtract bytes that must be downloaded again."""
        self._done -= count

    def end(self) -> None:
        if self._received:
            seconds = time.monotonic() - self._started
            logger.info("%s: %s in %.1f s", self._field, gigabytes(self._received), seconds)
