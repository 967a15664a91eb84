"""A review sample as a table in CSV, which people score in a spreadsheet.

Spreadsheets change what they read: they run text as a formula, and turn digits into numbers or dates. A cell
with such text gets an apostrophe in front, which is removed again from what is read back.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator

from tunegate_api.judging.review import RowScore
from tunegate_client.places.client import ClientError
from tunegate_client.places.review import OpenReview
from tunegate_client.places.review_files.given import GivenScores
from tunegate_client.places.review_session import answer_text, prompt_text

MAX_CELL = 32_000
"""Maximum length of a text in a cell, in characters. Excel moves what exceeds 32,767 into other cells."""
_ID, _GOOD, _NOTE, _REVIEWER = "id", "good", "note", "reviewer"
_YES, _NO = ("yes", "y", "true", "1", "good"), ("no", "n", "false", "0", "bad")
_DELIMITERS = ",;\t"
BOM = "\ufeff"
"""The first character, without which Excel does not read UTF-8."""
_CHANGED = re.compile(r"'*([=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]|[\d.,]+([:/ eE+-][\d.,:/ +-]*)?$)")
"""A text that a spreadsheet would change, with apostrophes in front or not."""


def table_text(review: OpenReview) -> str:
    """Return the rows of a sample, with the scores of the reviewer."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_ID, "row", "prompt", "answer", _GOOD, _NOTE])
    for row in review.rows:
        score = review.scores.get(row.id)
        good = "" if score is None else _YES[0] if score.good else _NO[0]
        cells = [row.id, row.row, prompt_text(row), answer_text(row), good, score.note if score else ""]
        writer.writerow([to_cell(cell) for cell in cells])
    return BOM + text.getvalue()


def read_table(text: str, given: GivenScores) -> None:
    """Read the scores in a table. The columns id and good are required, and may be anywhere. Raises
    ClientError if the table cannot be used at all."""
    records = read_records(text, given.refuse)
    columns = [name.strip().lower() for name in next(records, [])]
    missing = [name for name in (_ID, _GOOD) if name not in columns]
    if missing:
        raise given.refuse(
            f"the first row of the table has no column {' and no column '.join(missing)}: keep the columns "
            "of the exported file"
        )
    repeated = [name for name in (_ID, _GOOD, _NOTE, _REVIEWER) if columns.count(name) > 1]
    if repeated:
        raise given.refuse(
            f"the first row of the table has several columns {' and several columns '.join(repeated)}: keep "
            "one of each"
        )
    for number, cells in enumerate(records, start=2):
        cell = dict(zip(columns, map(str.strip, cells), strict=False))
        place, word = f"row {number} of the table", cell.get(_GOOD, "").lower()
        if word in (*_YES, *_NO):
            score = RowScore(good=word in _YES, note=from_cell(cell.get(_NOTE, "")))
            given.add(place, from_cell(cell.get(_ID, "")), score, from_cell(cell.get(_REVIEWER, "")))
        elif word:
            given.add_problem(f"{place}: the column {_GOOD} has {word[:32]!r}: write yes or no")


def read_records(text: str, refuse: Callable[[str], ClientError]) -> Iterator[list[str]]:
    """Yield the records of a table, however a spreadsheet separates its cells. ``refuse`` returns the error
    for a text that is no table."""
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep="):  # Excel's own first line
        text = rest
    head = text.partition("\n")[0].lower()
    delimiter = max(_DELIMITERS, key=head.count)
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    except csv.Error as error:
        raise refuse(f"not a table in CSV: {error}") from error


def to_cell(text: str) -> str:
    """Return a text as a cell that a spreadsheet does not change. Long texts are cut."""
    more = len(text) - MAX_CELL
    cell = f"{text[:MAX_CELL]}… ({more} more characters)" if more > 0 else text
    return f"'{cell}" if _CHANGED.match(cell) else cell


def from_cell(cell: str) -> str:
    """Return the text of a cell."""
    return cell[1:] if cell.startswith("'") and _CHANGED.match(cell) else cell
