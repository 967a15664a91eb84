"""Rows and pairs as the checks of usable rows read them, without a tokenizer."""

import json
from collections.abc import Sequence
from typing import Any

from tunegate_api.v1alpha1.data import Columns
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.parse import Parsed, RowT, parse_pairs, parse_rows
from tunegate_trainer.data.usable import Measured


def usable_rows(rows: Sequence[Any] = (), pairs: Sequence[Any] = ()) -> UsableRows:
    """Return rows and pairs, given as JSON objects, whose lengths in tokens are all 0."""
    of_rows = parse_rows("\n".join(map(json.dumps, rows)), Columns(), None)
    of_pairs = parse_pairs("\n".join(map(json.dumps, pairs)), Columns(), None)
    return UsableRows(_measured(of_rows), _measured(of_pairs), 0)


def _measured(parsed: Parsed[RowT]) -> list[Measured[RowT]]:
    assert not parsed.bad, parsed.bad
    return [Measured(row, 0, 0, row.group, 0) for row in parsed.rows]
