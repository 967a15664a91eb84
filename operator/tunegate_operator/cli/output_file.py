"""Files that commands write because an option names them."""

from pathlib import Path

import click


def prepare(option: str, path: Path | None) -> None:
    """Create the folder of a file that is written later, and remove an older file, so that nobody takes it
    for the result of this run. Raises UsageError, before the command does any work."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise click.UsageError(f"{option} {path} cannot be written: {error}") from error
