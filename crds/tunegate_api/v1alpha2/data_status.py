"""The part of a FineTuneJob's status about its data: numbers of rows, and results of the data checks."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import Decimal, Message, Sha256, StatusModel

MAX_REVIEWER = 64
"""Maximum length of a reviewer's name, in characters."""
MAX_REVIEWERS = 10
"""Maximum number of reviewers that the status names."""


class JudgeStatus(StatusModel):
    """The scores of a judge model."""

    model: Annotated[str, Field(max_length=256)]
    """Name of the model."""
    calibration: Literal["Passed", "Inconclusive"]
    """Passed: its scores count for rows that no person scored. Inconclusive: they do not, because it does not
    agree with people often enough."""
    recall_lower_bound: Decimal
    """Lower bound of the share of bad rows that it finds."""
    specificity_lower_bound: Decimal
    """Lower bound of the share of good rows that it accepts."""
    scored: int = 0
    """Number of rows of the sample that it scored."""
    message: Message = ""
    """The numbers behind the bounds, and how many requests failed."""


class ReviewStatus(StatusModel):
    """The review of a sample of the training rows."""

    sample: Sha256
    """Digest of the sample. Scores must name it."""
    rows: int
    """Number of rows in the sample."""
    scored: int = 0
    """Number of rows that at least one reviewer has scored."""
    good: int = 0
    """Number of scored rows that are good: more reviewers scored them good than bad."""
    judge: JudgeStatus | None = None
    """The judge model. Absent without `data.quality.grader`."""
    passed: bool | None = None
    """Whether the review is passed. Absent until all rows of the sample are scored."""
    reviewers: Annotated[
        list[Annotated[str, Field(max_length=MAX_REVIEWER)]], Field(max_length=MAX_REVIEWERS)
    ] = []
    """Names of the reviewers, as their scores state them."""


class DataStatus(StatusModel):
    """Numbers of rows after the rows were validated and split."""

    train: int
    """Number of training rows."""
    dev: int
    """Number of held-out rows that score checkpoints."""
    test: int
    """Number of held-out rows that are read once, by the final gate."""
    dropped: int = 0
    """Number of dropped rows. data/report.json on the volume gives the reason for each."""
    distribution_auc: Annotated[Decimal | None, Field(alias="distributionAUC")] = None
    """How well a classifier distinguishes training inputs from production inputs, as the area under the ROC
    curve: 0.5 means not at all, 1 means always. Absent without a source of use Production."""
    review_score: Decimal | None = None
    """Share of the reviewed sample that is good, 0 to 1. Absent without `data.quality`, and until all rows of
    the sample are scored."""
    review: ReviewStatus | None = None
    """The review of a sample of the training rows. Absent without `data.quality`."""
    warnings: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=8)] = []
    """Warnings about the data, which do not stop the job."""


MAX_DATA_CHECKS = 48
"""Maximum number of entries in `status.dataChecks`."""


class DataCheckResult(StatusModel):
    """Result of one data check. data/report.json on the volume has its findings, with examples."""

    name: Annotated[str, Field(max_length=32)]
    """Name of the check, for example golden_prompts."""
    result: Literal["Passed", "Warned", "Refused", "Off"]
    """Passed: no fault above the limit. Warned: a warning in the status. Refused: the job failed. Off: the
    check did not run."""
    count: Annotated[int | None, Field(ge=0, le=1_000_000_000)] = None
    """Number of faulty rows, pairs, cases or splits, or of missing rows. Absent if there are none."""
    share: Decimal | None = None
    """The measured value that was compared with the limit, such as the share of rows with the fault. Absent
    if the check has no limit or found nothing."""
