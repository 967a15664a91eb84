"""Files that commands write because an option names them."""

from collections.abc import Iterable
from pathlib import Path

import click


def prepare(option: str, path: Path | None, inputs: Iterable[Path]) -> None:
    """Create the folder of a file that is written later, and remove an older file, so that nobody takes it
    for the result of this run. Raises UsageError, before the command does any work, if the file is one of its
    ``inputs`` or cannot be written."""
    if path is None:
        return
    if path.exists() and any(path.samefile(one) for one in inputs if one.exists()):
        raise click.UsageError(f"{option} {path} is an input of this command: choose another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        path.unlink()
    except OSError as error:
        raise click.UsageError(f"{option} {path} cannot be written: {error}") from error
