"""The result of the review of the training data, for the evidence of a published model."""

from typing import Literal

from tunegate_api.judging.judge_model import Agreement, JudgeAssessment, assess_judge, votes_of_judge
from tunegate_api.judging.review import ReviewRecord, assess_review
from tunegate_api.meta import Decimal, Sha256, StatusModel, exact
from tunegate_api.plan import SamplePlan
from tunegate_api.v1alpha1.data import Quality


class AgreementEvidence(StatusModel):
    """How often a judge model agrees with people on the good or on the bad rows."""

    agreed: int
    total: int
    lower_bound: Decimal
    """The lower bound of the 95 % confidence interval of the rate."""
    min: Decimal
    """The minimum of the lower bound."""


class JudgeEvidence(StatusModel):
    """A judge model, and its scores for rows that people had scored before."""

    model: str
    instructions_sha256: Sha256
    """The digest of its instructions, which include the rubric."""
    calibration: Literal["Passed", "Inconclusive"]
    """Inconclusive: its scores did not count."""
    calibration_sha256: Sha256
    """The digest of the calibration rows."""
    recall: AgreementEvidence
    """The bad rows that it found."""
    specificity: AgreementEvidence
    """The good rows that it accepted."""
    unscored: int
    """The number of calibration rows that it gave no score."""
    faults: dict[str, int]
    """The number of failed requests by kind of fault."""


class ReviewEvidence(StatusModel):
    """The review of a sample of the training rows. It has counts and digests, but no names of reviewers."""

    sample: Sha256
    """The digest of the sample."""
    rows: int
    """The number of rows in the sample."""
    review: Literal["Manual", "Judge"]
    """Who had to score the sample: people or a judge model."""
    min_score: Decimal
    reviewed: int | None = None
    """The number of rows that were scored. This field and the next ones are absent if the ConfigMap with the
    scores was deleted before the model was published."""
    good: int | None = None
    """The number of good rows."""
    score: Decimal | None = None
    """The share of good rows."""
    passed: bool | None = None
    """Whether all rows were scored, and enough of them are good."""
    reviewers: int | None = None
    """The number of people who scored rows."""
    judged: int | None = None
    """The number of rows that the judge model scored instead of people."""
    judge: JudgeEvidence | None = None
    """Absent without a judge model."""


def review_evidence(
    quality: Quality | None, sample: SamplePlan | None, record: ReviewRecord | None
) -> ReviewEvidence | None:
    """Return the result of a review. None for a job without a review.

    ``record`` has the scores with which the operator decided the review. None if it was deleted.
    """
    if quality is None or sample is None:
        return None
    judge = assess_judge(sample.judge, quality.judge.calibration) if quality.judge and sample.judge else None
    evidence = ReviewEvidence(
        sample=sample.sha256,
        rows=len(sample.rows),
        review=quality.review,
        min_score=quality.min_score,
        judge=_judge_evidence(judge) if judge else None,
    )
    if record is None:
        return evidence
    found = assess_review(sample, record, exact(quality.min_score))
    judged = votes_of_judge(record, judge)
    return evidence.model_copy(
        update={
            "reviewed": found.scored,
            "good": found.good,
            "score": found.score,
            "passed": found.has_passed,
            "reviewers": len(record.votes) - len(judged),
            "judged": sum(len(votes.good) + len(votes.bad) for votes in judged),
        }
    )


def _judge_evidence(found: JudgeAssessment) -> JudgeEvidence:
    judge, calibration = found.judge, found.calibration
    return JudgeEvidence(
        model=judge.model,
        instructions_sha256=judge.instructions_sha256,
        calibration="Passed" if calibration.has_passed else "Inconclusive",
        calibration_sha256=judge.calibration.source_sha256,
        recall=_agreement(calibration.recall),
        specificity=_agreement(calibration.specificity),
        unscored=calibration.unscored,
        faults=judge.faults,
    )


def _agreement(found: Agreement) -> AgreementEvidence:
    return AgreementEvidence(
        agreed=found.agreed,
        total=found.total,
        lower_bound=found.lower_bound_text,
        min=found.minimum_text,
    )
