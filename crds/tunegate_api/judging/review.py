"""Judge the scores that people give to a sample of the training rows. No I/O.

A reviewer scores a row as good or bad. The rules:

* Scores count only for the sample whose digest they name.
* Every row of the sample must be scored. Until then, the review is not complete.
* A row is good if more reviewers score it good than bad. A tie is bad.
* If one reviewer has several scores for a row, one bad score makes the reviewer's vote bad.
* The review is passed if the share of good rows is at least the minimum, compared as exact fractions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from tunegate_api.contract.plan import SamplePlan
from tunegate_api.meta import Listed, Mapped, Sha256, StatusModel, summarize
from tunegate_api.v1alpha2.data_status import MAX_REVIEWER
from tunegate_api.verdict.outcomes import rate, rate_text, threshold_text

MAX_SCORE_MAPS = 10
"""The most ConfigMaps with scores of one job that are read."""
SCORES_SUFFIX = ".json"
"""The end of the keys in a ConfigMap that have scores. Other keys are ignored."""
MAX_NOTE = 100
"""Maximum length of a note in the record of a review, in characters. A longer note is truncated, so that the
record of the largest review fits in a ConfigMap, even if JSON escapes each character."""
MAX_NAMED_ROWS = 5
"""Maximum number of bad rows that a message names."""
_MAX_SHOWN_NOTE = 80
"""Maximum length of a note in a message, so that the message has room for all named rows."""


def _with_field(value: object) -> object:
    """Return a score in its long form: ``true`` means ``{"good": true}``."""
    return {"good": value} if isinstance(value, bool) else value


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError(
                "half_character",
                "has half of a surrogate pair (such as \\ud83d), which is not a character",
            ) from None
    return value


WholeText = Annotated[str, BeforeValidator(_without_surrogates)]
"""A text that UTF-8 can encode, so that it can be written to a ConfigMap."""


class RowScore(StatusModel):
    """The score of one row."""

    good: Annotated[bool, Field(strict=True)]
    """Whether the completion is a good answer to the prompt."""
    note: WholeText = ""
    """What is wrong with the row, for people."""


class ReviewScores(StatusModel):
    """The scores of one reviewer: the value of a key that ends with .json, in a ConfigMap with the label
    ``tunegate.dev/review``."""

    sample: Sha256
    """Digest of the sample that was scored, from ``status.data.review.sample``."""
    reviewer: Annotated[
        WholeText, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_REVIEWER)
    ]
    """Name of the reviewer. Two documents with the same name count as one reviewer."""
    scores: Mapped[Annotated[RowScore, BeforeValidator(_with_field)]]
    """Maps the id of a row in the sample to its score: true, false, or an object with ``good`` and
    ``note``."""


class ReviewerVotes(StatusModel):
    """The rows that one reviewer scored."""

    reviewer: Annotated[str, Field(max_length=MAX_REVIEWER)]
    good: Listed[str]
    """Ids of the rows with a good score."""
    bad: Listed[str]
    """Ids of the rows with a bad score."""


class ReviewRecord(StatusModel):
    """The scores with which a review was decided. The review is judged again from this record, so scores that
    change later have no effect."""

    sample: Sha256
    votes: Listed[ReviewerVotes]
    notes: Mapped[str] = {}
    """One note for each row that somebody scored as bad, if there is one."""


@dataclass(frozen=True)
class BadRow:
    """A row of the sample that most reviewers scored as bad."""

    id: str
    row: str
    """The id of the row in the data."""
    note: str

    def __str__(self) -> str:
        note = f": {self.note[:_MAX_SHOWN_NOTE]}" if self.note else ""
        return f"{self.id} (row {self.row}){note}"


@dataclass(frozen=True)
class ReviewAssessment:
    """How a sample was scored."""

    total: int
    scored: int
    """Number of rows that at least one reviewer scored."""
    good: int
    bad: Sequence[BadRow]
    """The bad rows, the worst first."""
    minimum: Fraction

    @property
    def is_complete(self) -> bool:
        """Whether all rows are scored."""
        return self.scored == self.total

    @property
    def has_passed(self) -> bool:
        """Whether all rows are scored, and enough of them are good."""
        return self.is_complete and rate(self.good, self.total) >= self.minimum

    @property
    def score(self) -> str:
        """The share of the scored rows that are good, as ``0.94``."""
        return rate_text(rate(self.good, self.scored))

    @property
    def counts(self) -> str:
        """The counts with their arithmetic."""
        return (
            f"{self.good}/{self.total} reviewed rows are good = {self.score}, "
            f"minimum {threshold_text(self.minimum)}"
        )

    @property
    def message(self) -> str:
        """The counts with their arithmetic, and the first bad rows."""
        bad = [str(row) for row in self.bad]
        more = f"; bad: {summarize(bad, MAX_NAMED_ROWS, separator='; ')}" if bad else ""
        return f"{self.counts}{more}"


def merge_scores(sample: SamplePlan, documents: Iterable[ReviewScores]) -> ReviewRecord:
    """Merge the scores of all reviewers into a record. The order of ``documents`` has no effect.

    Each document must be about ``sample``, see :func:`scores_problem`.
    """
    good_by_reviewer: dict[str, dict[str, bool]] = {}
    notes: dict[str, str] = {}
    for document in sorted(documents, key=lambda one: (one.reviewer, one.model_dump_json())):
        votes = good_by_reviewer.setdefault(document.reviewer, {})
        for id, score in document.scores.items():
            votes[id] = votes.get(id, True) and score.good
            if score.note and not score.good:
                notes.setdefault(id, score.note[:MAX_NOTE])
    return ReviewRecord(
        sample=sample.sha256,
        votes=[
            ReviewerVotes(reviewer=reviewer, good=_ids(votes, good=True), bad=_ids(votes, good=False))
            for reviewer, votes in good_by_reviewer.items()
        ],
        notes=notes,
    )


def assess_review(sample: SamplePlan, record: ReviewRecord, minimum: Fraction) -> ReviewAssessment:
    """Count the good and bad rows of ``sample``. A record about another sample counts as no scores."""
    votes = record.votes if record.sample == sample.sha256 else []
    balance: dict[str, int] = {}
    for reviewer in votes:
        for ids, vote in ((reviewer.good, 1), (reviewer.bad, -1)):
            for id in ids:
                balance[id] = balance.get(id, 0) + vote
    scored = [row for row in sample.rows if row.id in balance]
    bad = sorted((row for row in scored if balance[row.id] <= 0), key=lambda row: balance[row.id])
    return ReviewAssessment(
        total=len(sample.rows),
        scored=len(scored),
        good=len(scored) - len(bad),
        bad=[BadRow(row.id, row.row, record.notes.get(row.id, "")) for row in bad],
        minimum=minimum,
    )


def scores_problem(sample: SamplePlan, document: ReviewScores) -> str:
    """Return why scores do not count for ``sample``; empty if they count."""
    if document.sample != sample.sha256:
        return f"its scores are about the sample {document.sample[:12]}…, not {sample.sha256[:12]}…"
    known = {row.id for row in sample.rows}
    unknown = [id[:64] for id in document.scores if id not in known]
    if unknown:
        return f"not in the sample: row {summarize(unknown, MAX_NAMED_ROWS)}"
    return ""


def _ids(votes: Mapping[str, Any], *, good: bool) -> list[str]:
    return sorted(id for id, vote in votes.items() if vote is good)
