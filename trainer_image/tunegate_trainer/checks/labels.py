"""Decide whether the completions of rows are labels, as in a classification task, and count the labels."""

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

from tunegate_trainer.tokens.rows import Row

MAX_LABELS = 50
"""Maximum number of different labels."""
MAX_WORDS = 5
MAX_CHARACTERS = 60
"""Maximum length of a label."""
MIN_ROWS_PER_LABEL = 3
MIN_SHARE = Fraction(95, 100)
"""Minimum share of rows that have a label. The other rows may have any completion."""
MIN_ROWS = 10
_MAX_COUNTED = 10_000
"""With more different short completions than this, they are not labels."""


def labels(rows: Iterable[Row]) -> Counter[str] | None:
    """Return the number of rows of each label, or None if the completions are not labels.

    A label is a completion in one line, of at most 5 words and 60 characters, that at least 3 rows have. The
    completions are labels if at least 95 % of the rows have one, and if there are at most 50 labels and at
    least 10 rows. White space around a completion is ignored.
    """
    counted: Counter[str] = Counter()
    total = 0
    for row in rows:
        total += 1
        text = label_of(row)
        if text is not None:
            counted[text] += 1
            if len(counted) > _MAX_COUNTED:
                return None
    found = Counter({text: count for text, count in counted.items() if count >= MIN_ROWS_PER_LABEL})
    if total < MIN_ROWS or len(found) > MAX_LABELS or found.total() < MIN_SHARE * total:
        return None
    return found


def label_of(row: Row) -> str | None:
    """Return the completion without white space around it, or None if it is too long for a label."""
    text = row.completion.strip()
    if not text or row.tool_calls or len(text) > MAX_CHARACTERS or "\n" in text:
        return None
    return text if len(text.split()) <= MAX_WORDS else None
