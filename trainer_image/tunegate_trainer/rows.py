"""The forms of a row and of a pair after validation, and of the files that hold them."""

from collections.abc import Sequence
from pathlib import Path

from tunegate_api.golden import Message
from tunegate_api.meta import ApiModel
from tunegate_trainer.files import sha256_file, write_atomic

PAIRS_PREFIX = "preference-"
"""Before the side, in the name of a file of pairs."""
PREFERENCE = "preference_accuracy"
"""The task metric that is measured on pairs."""


class Row(ApiModel):
    """One labelled example: a chat up to the turn to answer, and the answer."""

    id: str
    prompt: list[Message]
    """Ends with a user turn."""
    completion: str
    unlearned: list[int] = []
    """Turns of the prompt, counted from 0, whose answer is not learned: what they answer is held out."""


class Pair(ApiModel):
    """One preference: a chat up to the turn to answer, the better answer and the worse one."""

    id: str
    prompt: list[Message]
    """Ends with a user turn."""
    chosen: str
    rejected: str


def write_rows(path: Path, rows: Sequence[Row | Pair]) -> str:
    """Write JSON Lines atomically. Returns the file's sha256."""
    write_atomic(path, "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows))
    return sha256_file(path)


def read_rows(path: Path) -> list[Row]:
    """Read rows that :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Row.model_validate_json(line) for line in file]


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs that :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Pair.model_validate_json(line) for line in file]
