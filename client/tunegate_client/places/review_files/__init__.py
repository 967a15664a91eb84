"""Files with which a team scores a review sample outside of Tunegate: a table for a spreadsheet, tasks for
Label Studio, and JSON Lines. The ending of a file's name selects its format."""

from pathlib import Path

import click

from tunegate_client.places.client import ClientError
from tunegate_client.places.review import OpenReview
from tunegate_client.places.review_files.given import GivenScores
from tunegate_client.places.review_files.json_lines import read_score_lines
from tunegate_client.places.review_files.label_studio import read_annotations, tasks_text
from tunegate_client.places.review_files.table import read_table, table_text

TABLE, LABEL_STUDIO = ".csv", ".json"
_WRITERS = {TABLE: table_text, LABEL_STUDIO: tasks_text}
_READERS = {TABLE: read_table, LABEL_STUDIO: read_annotations}


def write_sample(path: Path, review: OpenReview) -> None:
    """Write the rows of a sample to a new file. Raises ClientError."""
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise ClientError(
            f"{path} must end with {TABLE} for a spreadsheet, or {LABEL_STUDIO} for Label Studio"
        )
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(write(review))
    except FileExistsError as error:
        raise ClientError(f"{path} exists, and may have scores: delete it, or choose another name") from error
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror}") from error


def read_scores(path: Path, review: OpenReview) -> OpenReview:
    """Return the review with the scores in a file, ``-`` for standard input. Other rows keep their scores.

    Raises ClientError with the first mistakes, and where each is."""
    where = "standard input" if path == Path("-") else str(path)
    try:
        with click.open_file(str(path), encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"{where} cannot be read: {error}; save it in the encoding UTF-8") from error
    read = _READERS.get(path.suffix.lower(), read_score_lines)
    given = GivenScores(review, where)
    read(text, given)
    return given.review()
