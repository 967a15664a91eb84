"""Decide whether the scores of a judge model count, and add them to a review. No I/O.

A judge is calibrated on rows that people scored. Recall is the share of the bad rows that the judge finds,
and specificity the share of the good rows that it accepts. Its scores count only if the lower bounds of the
95 % confidence intervals of both reach their minimum. Otherwise the calibration is inconclusive, and people
review the sample. Rows that the judge gave no score count against it.
"""

from dataclasses import dataclass
from fractions import Fraction

from tunegate_api.contract.plan import CalibrationCounts, JudgePlan, SamplePlan
from tunegate_api.judging.review import MAX_NOTE, ReviewerVotes, ReviewRecord
from tunegate_api.v1alpha2.data_status import MAX_REVIEWER
from tunegate_api.v1alpha2.graders import RequiredAgreement
from tunegate_api.v1alpha2.shares import share
from tunegate_api.verdict.intervals import wilson
from tunegate_api.verdict.outcomes import rate, rate_text, threshold_text

DEFAULT_MINIMUM = "80%"
"""The minimum of recall and specificity of a judge."""
MAX_CALIBRATION_ROWS = 1000
"""Maximum number of calibration rows. More would cost requests without making the bounds much tighter."""


@dataclass(frozen=True)
class Agreement:
    """How often a judge agrees with people on the good or on the bad rows."""

    name: str
    """``recall`` or ``specificity``."""
    agreed: int
    total: int
    minimum: Fraction
    """The minimum of :attr:`lower_bound`."""

    @property
    def lower_bound(self) -> Fraction:
        """The lower bound of the 95 % confidence interval; 0 without rows."""
        return Fraction(wilson(min(self.agreed, self.total), self.total).low) if self.total else Fraction(0)

    @property
    def is_reached(self) -> bool:
        """Whether the lower bound is at least the minimum. False without rows."""
        return self.total > 0 and self.lower_bound >= self.minimum

    @property
    def share_text(self) -> str:
        """The share of agreed rows, as ``0.70``."""
        return rate_text(rate(self.agreed, self.total))

    @property
    def lower_bound_text(self) -> str:
        return rate_text(self.lower_bound)

    @property
    def minimum_text(self) -> str:
        return threshold_text(self.minimum)

    def __str__(self) -> str:
        """The arithmetic, as ``recall 14/20 = 0.70, lower bound 0.48, minimum 0.70``."""
        return (
            f"{self.name} {self.agreed}/{self.total} = {self.share_text}, "
            f"lower bound {self.lower_bound_text}, minimum {self.minimum_text}"
        )


@dataclass(frozen=True)
class CalibrationAssessment:
    """Whether a judge agrees with people often enough."""

    recall: Agreement
    specificity: Agreement
    unscored: int

    @property
    def has_passed(self) -> bool:
        """Whether the scores of the judge count."""
        return self.recall.is_reached and self.specificity.is_reached

    @property
    def message(self) -> str:
        """The arithmetic of both rates."""
        missing = f"; {self.unscored} calibration rows without a score" if self.unscored else ""
        return f"{self.recall}; {self.specificity}{missing}"


def assess_calibration(counts: CalibrationCounts, wanted: RequiredAgreement) -> CalibrationAssessment:
    """Compare the scores of a judge with those of people."""
    return CalibrationAssessment(
        Agreement("recall", counts.bad_found, counts.bad, share(wanted.min_recall or DEFAULT_MINIMUM)),
        Agreement(
            "specificity", counts.good_accepted, counts.good, share(wanted.min_specificity or DEFAULT_MINIMUM)
        ),
        counts.unscored,
    )


def rows_needed(minimum: Fraction) -> int:
    """Return how many rows a judge without any error needs, so that its lower bound reaches ``minimum``,
    which is at most 0.99."""
    numbers = range(1, MAX_CALIBRATION_ROWS + 1)
    return next(rows for rows in numbers if Agreement("", rows, rows, minimum).is_reached)


@dataclass(frozen=True)
class JudgeAssessment:
    """The scores of a judge for the sample, and whether they count."""

    judge: JudgePlan
    calibration: CalibrationAssessment

    @property
    def scored(self) -> int:
        """Number of rows of the sample that the judge scored."""
        return len(self.judge.good) + len(self.judge.bad)

    @property
    def message(self) -> str:
        """The arithmetic of the calibration, and the failed requests."""
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.judge.faults.items()))
        return (
            f"{self.calibration.message}; failed requests: {faults}" if faults else self.calibration.message
        )


def assess_judge(judge: JudgePlan, wanted: RequiredAgreement) -> JudgeAssessment:
    """Return whether the scores of a judge count."""
    return JudgeAssessment(judge, assess_calibration(judge.calibration, wanted))


def add_judge(record: ReviewRecord, sample: SamplePlan, found: JudgeAssessment) -> ReviewRecord:
    """Return the record with the votes of a calibrated judge, for the rows that no person scored.

    The record of people is returned unchanged if the judge is not calibrated.
    """
    if not found.calibration.has_passed:
        return record
    by_people = {id for votes in record.votes for id in (*votes.good, *votes.bad)}
    missing = {row.id for row in sample.rows} - by_people
    bad = {row.id: row.reason[:MAX_NOTE] for row in found.judge.bad if row.id in missing}
    good = sorted(missing.intersection(found.judge.good) - bad.keys())
    if not good and not bad:
        return record
    votes = ReviewerVotes(reviewer=_reviewer(found.judge), good=good, bad=sorted(bad))
    reasons = {id: reason for id, reason in bad.items() if reason}
    return record.model_copy(update={"votes": [*record.votes, votes], "notes": record.notes | reasons})


def votes_of_judge(record: ReviewRecord, found: JudgeAssessment | None) -> list[ReviewerVotes]:
    """Return the votes in ``record`` that :func:`add_judge` added: at most one entry."""
    if found is None or not found.calibration.has_passed:
        return []
    return [votes for votes in record.votes[-1:] if votes.reviewer == _reviewer(found.judge)]


def _reviewer(judge: JudgePlan) -> str:
    return f"judge {judge.model}"[:MAX_REVIEWER]
