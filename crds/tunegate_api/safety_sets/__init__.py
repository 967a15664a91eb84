"""The safety sets that are included in Tunegate.

A set never changes, so that results on it stay comparable: a set with other cases gets another name.
"""

from importlib.resources import files

BUILTIN = ("refusals-v1",)
"""The names of the sets."""


def builtin_text(name: str) -> str:
    """Return the text of an included set in JSON Lines format. Raises :class:`KeyError` if there is no such
    set."""
    if name not in BUILTIN:
        raise KeyError(name)
    return files(__name__).joinpath(f"{name}.jsonl").read_text(encoding="utf-8")
