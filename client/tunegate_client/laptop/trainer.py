"""The trainer on this machine, whose libraries are not installed with the command."""

from importlib.util import find_spec

_LIBRARY = "trl"
"""A library that only the trainer needs."""


def missing_trainer() -> str | None:
    """Return what to do if the libraries of the trainer are not installed; None if they are."""
    if find_spec(_LIBRARY):
        return None
    return (
        "this command needs the trainer, whose libraries are not installed: run `make setup` in a clone of "
        "Tunegate and use .venv/bin/tunegate, or install the package with both extras, '.[client,trainer]'"
    )
