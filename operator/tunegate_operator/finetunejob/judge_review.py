"""Add the scores of a judge model to the review of a job, and show them in status."""

from tunegate_api.contract.plan import SamplePlan
from tunegate_api.contract.request import Request
from tunegate_api.judging.judge_model import JudgeAssessment, assess_judge
from tunegate_api.v1alpha2.data_status import JudgeStatus
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_api.verdict.outcomes import rate_text


def find_judge(request: Request, sample: SamplePlan) -> JudgeAssessment | None:
    """Return the scores of the job's judge, and whether they count. None if only people review the sample, or
    if the data pod asked no judge."""
    named = request.review_grader
    return assess_judge(sample.judge, named.agreement) if named and sample.judge else None


def judge_status(found: JudgeAssessment) -> JudgeStatus:
    """Return the judge as status shows it."""
    return JudgeStatus(
        model=found.judge.model,
        calibration="Passed" if found.calibration.has_passed else "Inconclusive",
        recall_lower_bound=rate_text(found.calibration.recall.lower_bound),
        specificity_lower_bound=rate_text(found.calibration.specificity.lower_bound),
        scored=found.scored,
        message=found.message,
    )


def why_people_review(found: JudgeAssessment, rows: int) -> str:
    """Return why people must score rows although the job has a judge."""
    if not found.calibration.has_passed:
        return f"Inconclusive: the scores of the judge {found.judge.model} do not count: {found.message}"
    return (
        f"the judge {found.judge.model} scored {found.scored} of {rows} rows, and people must score the "
        f"rest: {found.message}"
    )


def asked_no_judge(request: Request, sample: SamplePlan) -> Failure | None:
    """Return a failure if the job has a judge, but the data pod did not ask it."""
    if request.review_grader is None or sample.judge is not None:
        return None
    return Failure(
        reason=Reason.REPORT_MISSING,
        message="spec.data.quality has a grader, but the data pod asked no judge: its trainer image is "
        "older than the operator",
        hint="Set the trainer image to the version of the operator, and create the job again.",
    )
