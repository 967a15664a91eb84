"""Files onto the volume: from where an earlier attempt stopped, verified, and only then by their name."""

import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tunegate_trainer.fetch.address import RemoteFile
from tunegate_trainer.fetch.network import Patience, TransientError
from tunegate_trainer.process.errors import BadDataError, StorageError

logger = logging.getLogger(__name__)

PART = ".part"
"""Ends the name of a file that is not whole, or not verified."""
_SAY_EVERY_SECONDS = 10


def download(field: str, files: Sequence[RemoteFile], folder: Path) -> None:
    """Bring ``files`` into ``folder``; those that are there are whole and verified already.

    Raises :class:`StorageError` when the volume has no room for them, :class:`BadDataError` for content that
    does not have its checksum, :class:`UnreachableError` when nothing came for several tries, and what a
    scheme's ``read`` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not (folder / file.name).is_file()]
    _check_room(field, missing, folder)
    progress = _Progress(field, sum(file.size for file in missing), _held(missing, folder))
    for file in missing:
        _download(field, file, folder, progress)
    progress.end()


def _held(files: Sequence[RemoteFile], folder: Path) -> int:
    """Bytes that earlier attempts left of ``files``."""
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
    resumed = _size(part) > 0
    _complete(field, file, part, progress)
    is_right = _is_right(file, part)
    if not is_right and resumed:
        # What an earlier attempt left may be damaged, by a node that lost its power for one: from the start.
        part.unlink()
        progress.forget(file.size)
        _complete(field, file, part, progress)
        is_right = _is_right(file, part)
    if not is_right:
        part.unlink()
        raise BadDataError(
            f"{field}: the content of {file.name} does not match the checksum that the server reports",
            "it is damaged at its source or on the way: check the file there, and any proxies",
        )
    _flush(part)
    part.rename(folder / file.name)


def _complete(field: str, file: RemoteFile, part: Path, progress: "_Progress") -> None:
    """Read on until the file has its size."""
    if _size(part) > file.size:
        part.unlink()
    part.touch()
    patience, furthest = Patience(field), _size(part)
    while _size(part) < file.size:
        try:
            _append(file, part, progress)
            if _size(part) < file.size:
                raise TransientError("the connection ended too early")
        except TransientError as error:
            if _size(part) > furthest:  # where each try begins anew, getting as far as before is nothing
                furthest = _size(part)
                patience.got_on()
            patience.wait(error)


def _append(file: RemoteFile, part: Path, progress: "_Progress") -> None:
    held = _size(part)
    with file.read(held) as stream, part.open("r+b") as out:
        if stream.start != held:
            progress.forget(held - stream.start)
            out.truncate(stream.start)
        out.seek(stream.start)
        for chunk in stream.chunks:
            if out.tell() + len(chunk) > file.size:
                raise TransientError(f"{file.name} is longer than the server reported")
            out.write(chunk)
            progress.add(len(chunk))


def _is_right(file: RemoteFile, path: Path) -> bool:
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
    """Says now and then how far a download is."""

    def __init__(self, field: str, total: int, held: int) -> None:
        self._field, self._total, self._done = field, total, held
        self._began = self._said = time.monotonic()
        self._received = 0
        if total:
            earlier = f", {gigabytes(held)} already downloaded" if held else ""
            logger.info("%s: downloading %s%s", field, gigabytes(total), earlier)

    def add(self, count: int) -> None:
        self._done += count
        self._received += count
        if time.monotonic() - self._said >= _SAY_EVERY_SECONDS:
            self._said = time.monotonic()
            speed = self._received / (self._said - self._began)
            logger.info(
                "%s: %s of %s, %.0f MB/s, %.0f s left",
                self._field,
                gigabytes(self._done),
                gigabytes(self._total),
                speed / 1e6,
                (self._total - self._done) / speed,
            )

    def forget(self, count: int) -> None:
        """Bytes that are to be read once more."""
        self._done -= count

    def end(self) -> None:
        if self._received:
            seconds = time.monotonic() - self._began
            logger.info("%s: %s in %.1f s", self._field, gigabytes(self._received), seconds)
