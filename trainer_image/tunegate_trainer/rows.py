"""The one form of a row after validation, and of the files that hold them."""

from pathlib import Path

from tunegate_api.golden import Message
from tunegate_api.meta import ApiModel


class Row(ApiModel):
    """One labelled example: a chat up to the turn to answer, and the answer."""

    id: str
    prompt: list[Message]
    """Ends with a user turn."""
    completion: str


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """Read what :func:`write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Row.model_validate_json(line) for line in file]
