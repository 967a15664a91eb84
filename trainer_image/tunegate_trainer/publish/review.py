"""The result of the review of the training data, for the evidence of a published model."""

from tunegate_api.contract.plan import SamplePlan
from tunegate_api.contract.request import Request
from tunegate_api.judging.judge_model import Agreement, JudgeAssessment, assess_judge, votes_of_judge
from tunegate_api.judging.review import ReviewRecord, assess_review
from tunegate_api.v1alpha2.shares import share
from tunegate_api.verdict.outcomes import threshold_text
from tunegate_trainer.artifacts.evidence import AgreementEvidence, JudgeEvidence, ReviewEvidence


def review_evidence(
    request: Request, sample: SamplePlan | None, record: ReviewRecord | None
) -> ReviewEvidence | None:
    """Return the result of a review. None for a job without a review.

    ``record`` has the scores with which the operator decided the review. None if it was deleted.
    """
    quality, named = request.spec.data.quality, request.review_grader
    if quality is None or sample is None:
        return None
    minimum = share(quality.min_score)
    judge = assess_judge(sample.judge, named.agreement) if named and sample.judge else None
    evidence = ReviewEvidence(
        sample=sample.sha256,
        rows=len(sample.rows),
        min_score=threshold_text(minimum),
        judge=_judge_evidence(judge) if judge else None,
    )
    if record is None:
        return evidence
    found = assess_review(sample, record, minimum)
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
