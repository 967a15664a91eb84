"""Wait until the review sample of a job is scored, and judge the scores.

People's scores arrive in ConfigMaps with the label ``tunegate.dev/review``, and those of a judge model in the
plan. The scores with which the review was decided are recorded in an immutable ConfigMap, so later changes
have no effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from tunegate_api.contract.plan import Plan, SamplePlan
from tunegate_api.contract.process import Role
from tunegate_api.judging.judge_model import JudgeAssessment, add_judge
from tunegate_api.judging.review import (
    MAX_SCORE_MAPS,
    SCORES_SUFFIX,
    ReviewAssessment,
    ReviewRecord,
    ReviewScores,
    assess_review,
    merge_scores,
    scores_problem,
)
from tunegate_api.meta import cut, first_problem, summarize
from tunegate_api.v1alpha2.data import Quality
from tunegate_api.v1alpha2.data_status import MAX_REVIEWERS, DataStatus, ReviewStatus
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_api.v1alpha2.shares import share
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.controller import Create
from tunegate_operator.finetunejob.build import review_config_map
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.finetunejob.judge_review import (
    asked_no_judge,
    find_judge,
    judge_status,
    why_people_review,
)
from tunegate_operator.names import REVIEW_LABEL

_MAX_PROBLEMS = 3


@dataclass(frozen=True)
class _Review:
    """The scores for the sample of a job, and what is wrong with other scores."""

    assessment: ReviewAssessment
    record: ReviewRecord
    judge: JudgeAssessment | None
    """The scores of the judge model; None without a judge."""
    problems: tuple[str, ...] = ()
    """Why scores do not count."""
    is_blocked: bool = False
    """Whether the review cannot be decided, even if all rows are scored."""

    @property
    def is_decided(self) -> bool:
        return self.assessment.is_complete and not self.is_blocked


def ensure_reviewed(run: Run, plan: Plan) -> bool:
    """Return whether the sample is reviewed and enough of its rows are good. If too few are good, fail the
    job; if scores are missing, show what the job waits for. True for a job without a review."""
    quality, sample = run.observed.job.spec.data.quality, plan.data.review
    if quality is None:
        return True
    if sample is None:
        run.draft.fail(_no_sample())
        return False
    if _passed_data(run, sample):
        return True
    if failure := asked_no_judge(run.request, sample):
        run.draft.fail(failure)
        return False
    review = _read_review(run, quality, sample)
    if not review.is_decided:
        message = _waiting_message(run, review)
        run.draft.enter(Phase.AWAITING_REVIEW, message, Reason.AWAITING_REVIEW)
        return False
    if run.observed.review is None:
        run.draft.agenda.actions.append(Create(review_config_map(run.observed.job, review.record)))
    if not review.assessment.has_passed:
        run.draft.fail(_failure(review.assessment))
    return review.assessment.has_passed


def absorb_review(run: Run) -> None:
    """Show in status how many rows of the sample are scored, and the result of the review."""
    quality, data = run.observed.job.spec.data.quality, run.draft.status.data
    sample = run.plan.data.review if run.plan else None
    if quality is None or data is None or sample is None:
        return
    passed = _passed_data(run, sample)
    if passed:
        run.draft.set(
            data=data.model_copy(update={"review": passed.review, "review_score": passed.review_score})
        )
        return
    review = _read_review(run, quality, sample)
    found, decided = review.assessment, review.is_decided
    status = ReviewStatus(
        sample=sample.sha256,
        rows=found.total,
        scored=found.scored,
        good=found.good,
        judge=judge_status(review.judge) if review.judge else None,
        passed=found.has_passed if decided else None,
        reviewers=[votes.reviewer for votes in review.record.votes][:MAX_REVIEWERS],
    )
    score = found.score if decided else None
    run.draft.set(data=data.model_copy(update={"review": status, "review_score": score}))


def _passed_data(run: Run, sample: SamplePlan) -> DataStatus | None:
    """Return the earlier status of the data if training started after its review, but the record of the
    review was deleted. Without it, a job that trains would await its review again."""
    before = run.observed.job.status.data
    review = before.review if before else None
    if run.observed.review or review is None or not review.passed or review.sample != sample.sha256:
        return None
    children, attempts = run.observed.children, run.observed.job.status.attempts
    roles = [*(child.step.role for child in children), *(attempt.role for attempt in attempts)]
    return before if Role.TRAIN in roles else None


def _read_review(run: Run, quality: Quality, sample: SamplePlan) -> _Review:
    """Return the recorded review, or the review with the scores in ConfigMaps if none is recorded."""
    observed, minimum, judge = run.observed, share(quality.min_score), find_judge(run.request, sample)
    if observed.review is not None:
        return _Review(assess_review(sample, observed.review, minimum), observed.review, judge)
    documents, problems = list[ReviewScores](), list[str]()
    for config_map in observed.score_maps:
        for where, found in _documents(config_map):
            problem = found if isinstance(found, str) else scores_problem(sample, found)
            if problem:
                problems.append(f"{where} is ignored: {problem}")
            elif isinstance(found, ReviewScores):
                documents.append(found)
    reviewers = {document.reviewer for document in documents}
    blocked = observed.more_score_maps > 0 or len(reviewers) > MAX_REVIEWERS
    if blocked:
        problems.insert(
            0,
            f"at most {MAX_SCORE_MAPS} ConfigMaps with the label {REVIEW_LABEL} and {MAX_REVIEWERS} "
            "reviewers are allowed: delete the others",
        )
    record = merge_scores(sample, documents)
    record = add_judge(record, sample, judge) if judge else record
    return _Review(assess_review(sample, record, minimum), record, judge, tuple(problems), blocked)


def _documents(config_map: Object) -> Iterator[tuple[str, ReviewScores | str]]:
    """Yield for each key with scores where it is, and the scores or why they cannot be read."""
    name, data = config_map["metadata"]["name"], config_map.get("data") or {}
    keys = sorted(key for key in data if key.endswith(SCORES_SUFFIX))
    if not keys:
        yield f"ConfigMap {name}", f"it has no key that ends with {SCORES_SUFFIX}"
    for key in keys:
        where = f"ConfigMap {name}, key {key}"
        try:
            yield where, ReviewScores.model_validate_json(data[key])
        except ValidationError as error:
            yield where, first_problem(error)


def _waiting_message(run: Run, review: _Review) -> str:
    """Return what a person should do, and why some scores do not count."""
    found, meta = review.assessment, run.observed.job.metadata
    command = f"tunegate review {run.pods.command_arguments(meta.name, meta.namespace)}"
    todo = (
        f"{found.scored} of {found.total} rows of the review sample are scored; score the rest with "
        f"`{command}`, or apply a ConfigMap with the label {REVIEW_LABEL}={meta.name}"
    )
    judge = None if found.is_complete else review.judge
    why = why_people_review(judge, found.total) if judge else ""
    problems = summarize(review.problems, _MAX_PROBLEMS, separator="; ")
    return cut(". ".join(filter(None, (why, todo, problems))))


def _failure(found: ReviewAssessment) -> Failure:
    return Failure(
        reason=Reason.REVIEW_FAILED,
        message=cut(found.message),
        hint="Correct or remove the bad rows and rows like them, then create the job again.",
    )


def _no_sample() -> Failure:
    return Failure(
        reason=Reason.REPORT_MISSING,
        message="spec.data.quality requires a review, but the data pod chose no sample: its trainer image is "
        "older than the operator",
        hint="Set the trainer image to the version of the operator, and create the job again.",
    )
