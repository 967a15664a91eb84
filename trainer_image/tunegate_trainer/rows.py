"""The one form of a row after validation, and of the files that hold them."""

from pathlib import Path

from tunegate_api.golden import Message
from tunegate_api.meta import ApiModel
from tunegate_trainer.files import sha256_file, write_atomic


class Row(ApiModel):
    """One labelled example: a chat up to the turn to answer, and the answer."""

    id: str
    prompt: list[Message]
    """Ends with a user turn."""
    completion: str


def write_rows(path: Path, rows: list[Row]) -> str:
    """Write JSON Lines atomically. Returns the file's sha256."""
    write_atomic(path, "".join(row.model_dump_json() + "\n" for row in rows))
    return sha256_file(path)


def read_rows(path: Path) -> list[Row]:
    """Read what :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Row.model_validate_json(line) for line in file]
