"""Select the files of a data set's folder by their names, before anything is downloaded."""

import logging
from collections.abc import Collection
from pathlib import PurePosixPath

from tunegate_api.meta import summarize
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.download import PART

logger = logging.getLogger(__name__)

MAX_FILES = 10_000
"""Maximum number of files in a folder, hidden ones included."""
_SHOWN = 8
"""Maximum number of names in an error."""


def choose_files(address: Address, names: Collection[str]) -> list[str]:
    """Return the names of the files to download, sorted. ``names`` are the paths of the files in the folder,
    relative to it; a listing may stop after ``MAX_FILES + 1`` files. As in a local folder, hidden files and
    folders are left out, whose names begin with a dot.

    Raises :class:`UserError` if there are more than ``MAX_FILES`` files, and for names with which a file, or
    a part of it, would be written outside the folder, or over another file.
    """
    if len(names) > MAX_FILES:
        raise address.wrong(
            f"the folder has more than {MAX_FILES:,} files",
            "set uri to a folder with fewer files, or merge small files into larger ones",
        )
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    unusable = [name for name in sorted(names) if name in folders or not _is_relative(name)]
    if unusable:
        raise address.wrong(
            f"these files cannot be stored in a folder: {summarize(unusable, _SHOWN)}",
            'rename them: a path must have no empty part and no part "." or "..", and must not be a folder '
            "of other files",
        )
    chosen = sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))
    partial = [f"{name}{PART}" for name in chosen]
    colliding = sorted(folders.union(names).intersection(partial))
    if colliding:
        raise address.wrong(
            f"these files or folders have the names of partial downloads: {summarize(colliding, _SHOWN)}",
            f"rename them: while a file NAME is downloaded, it is stored as NAME{PART}",
        )
    logger.info("%s: the folder has %d files", address.field, len(chosen))
    return chosen


def _is_relative(name: str) -> bool:
    """Return whether a name is the path of a file in a folder, spelled in the only possible way."""
    path = PurePosixPath(name)
    return str(path) == name and not path.is_absolute() and ".." not in path.parts and "\0" not in name
