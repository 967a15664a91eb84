"""How many training rows a job needs, and how many may be trained on without a review."""

from tunegate_api.v1alpha2.data import Goal

MINIMUM_ROWS: dict[Goal, int] = {
    "StyleOrFormat": 200,
    "DomainVocabulary": 500,
    "TaskSpecialization": 1000,
    "InstructionFollowing": 2000,
}
"""The minimum number of training rows for each goal."""
MAX_UNREVIEWED_ROWS = 10_000
"""The maximum number of training rows without a review of a sample. With more rows, quality matters more than
volume, and nobody can read all rows."""
