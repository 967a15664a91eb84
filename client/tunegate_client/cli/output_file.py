"""Files that commands write because an option names them."""

from collections.abc import Iterable
from pathlib import Path

import click


def prepare(option: str, path: Path | None, inputs: Iterable[Path]) -> None:
    """Create the folder of a file that is written later, and remove an older file, so that nobody takes it
    for the result of this run. Raises UsageError, before the command does any work, if the file cannot be
    written, or is one of the ``inputs`` or in a folder among them."""
    if path is None:
        return
    files = (file for one in inputs for file in [one, *one.rglob("*")])
    if path.exists() and any(path.samefile(file) for file in files if file.exists()):
        raise click.UsageError(f"{option} {path} is an input of this command: choose another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        path.unlink()
    except OSError as error:
        raise click.UsageError(f"{option} {path} cannot be written: {error}") from error
