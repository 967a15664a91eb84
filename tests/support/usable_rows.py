"""Rows and pairs as the checks of usable rows read them, without a tokenizer."""

from collections.abc import Sequence
from typing import Any

from support.records import records_of
from tunegate_api.v1alpha1.data import Columns
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.parse import Parsed, parse_pairs, parse_rows
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.tokens.rows import RowT


def usable_rows(rows: Sequence[Any] = (), pairs: Sequence[Any] = ()) -> UsableRows:
    """Return rows and pairs, given as JSON objects, whose lengths in tokens are all 0."""
    of_rows = parse_rows(records_of(*rows), Columns(), None)
    of_pairs = parse_pairs(records_of(*pairs), Columns(), None)
    measured, measured_pairs = _measured(of_rows), _measured(of_pairs)
    near_duplicates = find_near_duplicates(Documents(measured, measured_pairs))
    return UsableRows(measured, measured_pairs, 0, near_duplicates)


def _measured(parsed: Parsed[RowT]) -> list[Measured[RowT]]:
    assert not parsed.bad, parsed.bad
    return [Measured(row, 0, 0, row.group, 0, 0) for row in parsed.rows]
