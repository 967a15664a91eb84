"""Records for tests of code that reads them from a data source."""

import io
import json

from tunegate_trainer.data.records.json_lines import read_lines
from tunegate_trainer.data.records.record import Record


def records_of(*rows: object) -> list[Record]:
    """Return the records of a JSON Lines file with these rows. A row that is a string is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return list(read_lines(io.BytesIO("\n".join(lines).encode())))
