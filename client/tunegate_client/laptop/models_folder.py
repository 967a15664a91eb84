"""Use the folder for downloaded models in a runs folder, which several commands may use at once."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunegate_client.laptop.cluster import is_in_use
from tunegate_client.laptop.status import cluster_folder

_MOST_TRIES = 100


@contextmanager
def models_folder(folder: Path, runs: Path) -> Iterator[None]:
    """Create ``folder``. Afterwards, remove it if it is empty, then each parent that is empty, up to and
    including ``runs`` unless this is a link.

    Nothing is removed outside ``runs``, or while another command uses the folder: each command holds a shared
    lock on the folder, and only a command that gets the exclusive lock removes it.
    """
    kept = 1 if runs.is_symlink() else 0
    runs, folder = runs.resolve(), folder.resolve()
    if runs not in folder.parents:
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    descriptor = _open_locked(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # in use, not empty, or removed by a person
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(folder, descriptor) and not is_in_use(cluster_folder(runs)):
                for empty in (folder, *folder.parents[: folder.parents.index(runs) + 1 - kept]):
                    empty.rmdir()
        os.close(descriptor)


def _open_locked(folder: Path) -> int:
    """Create ``folder`` if it is missing, and return its descriptor with a shared lock. Retry if another
    command removes the folder at the same time."""
    for left in reversed(range(_MOST_TRIES)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
        except (FileExistsError, FileNotFoundError):  # removed between two of the calls
            if left:
                continue
            raise
        with suppress(OSError):  # some network file systems have no locks for folders
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_at(folder, descriptor):
            return descriptor
        os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "the folder is removed by other commands", str(folder))


def _is_at(folder: Path, descriptor: int) -> bool:
    """Return whether ``descriptor`` is that of the folder at this path, which may have been removed and
    created again."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
