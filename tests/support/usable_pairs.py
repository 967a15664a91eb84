"""Usable pairs for tests of data checks, without a tokenizer."""

from collections.abc import Sequence
from typing import Any

from support.records import records_of
from tunegate_api.v1alpha1.data import Columns
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.parse import parse_pairs
from tunegate_trainer.data.usable import Measured


def usable_pairs(pairs: Sequence[dict[str, str]]) -> UsableRows:
    """Return pairs as data checks read them. The pair at index 0 is in line 1."""
    parsed = parse_pairs(records_of(*pairs), Columns(), None)
    measured = [
        Measured(labelled, tokens=4, learned=2, group=labelled.group, answer=1, position=2 * i)
        for i, labelled in enumerate(parsed.rows)
    ]
    groups = len({one.group for one in measured})
    return UsableRows([], measured, groups, find_near_duplicates(Documents([], measured)))


NO_CONTEXT: Any = None
"""A context for checks that read nothing but pairs."""
