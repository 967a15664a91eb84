"""The review of the training data, and the calibration of its judge model."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tunegate_api.judging.judge_model import JudgeAssessment, add_judge, assess_judge
from tunegate_api.judging.review import BadRow, ReviewAssessment, ReviewRecord, assess_review
from tunegate_api.judging.review_sample import ReviewRow, with_id
from tunegate_api.v1alpha2.shares import share
from tunegate_api.verdict.intervals import Interval, wilson
from tunegate_api.verdict.outcomes import RuleFinding, VerdictState, threshold_text
from tunegate_trainer.data.excerpts import ends_of, start_of
from tunegate_trainer.report.collect import Collected

logger = logging.getLogger(__name__)

MAX_SHOWN = 10
"""Maximum number of bad rows that are shown."""
_SHOWN_CHARACTERS = 400
"""Maximum number of characters at the start and at the end of a prompt or completion."""
_SHOWN_NOTE = 200


class ReviewState(StrEnum):
    """The state of a review as far as the files of the job show it."""

    WAITING = "Waiting"
    """People must score rows."""
    FAILED = "Failed"
    PASSED = "Passed"
    UNKNOWN = "Unknown"
    """The job trains, but the record of the review was deleted."""


@dataclass(frozen=True)
class ShownRow:
    """A bad row of the sample. Its texts are masked and shortened."""

    id: str
    row: str
    note: str
    prompt: str
    """Empty if the row is no longer on the volume."""
    completion: str


@dataclass(frozen=True)
class ReviewReport:
    """The review of a job. Before it is decided, it has only the scores of the judge."""

    state: ReviewState
    found: ReviewAssessment
    judge: JudgeAssessment | None
    reviewers: Sequence[str]
    bad: Sequence[ShownRow]
    """The worst rows."""

    @property
    def is_first(self) -> bool:
        """Whether the result of the review is what a reader wants to see first."""
        return self.state in (ReviewState.WAITING, ReviewState.FAILED)

    @property
    def minimum(self) -> str:
        return threshold_text(self.found.minimum)

    @property
    def interval(self) -> Interval:
        """The 95 % confidence interval of the share of good rows."""
        return wilson(self.found.good, self.found.scored)

    @property
    def more(self) -> int:
        """The number of bad rows that are not shown."""
        return len(self.found.bad) - len(self.bad)

    @property
    def sentence(self) -> str:
        """What the review means for the job."""
        total = self.found.total
        if self.state is ReviewState.FAILED:
            return "Too few rows of the sample are good, so the job does not train."
        if self.state is ReviewState.PASSED:
            return "Enough rows of the sample are good."
        if self.state is ReviewState.UNKNOWN:
            return "The review was passed, but the record of its scores was deleted."
        if self.judge is None:
            return f"Before the job trains, people must score the {total} rows of the sample."
        if not self.judge.calibration.has_passed:
            return (
                "The judge model is Inconclusive: it does not agree with people often enough. Before the job "
                f"trains, people must score the {total} rows of the sample."
            )
        return (
            f"The judge model scored {self.judge.scored} of {total} rows of the sample. "
            "Before the job trains, people must score the others."
        )

    @property
    def findings(self) -> Sequence[tuple[str, RuleFinding]]:
        """The numbers behind the state, as pairs of a name and a finding."""
        found: list[tuple[str, RuleFinding]] = []
        if self.state is ReviewState.FAILED:
            found.append(("review", RuleFinding("minScore", VerdictState.FAILED, self.found.counts)))
        if self.judge:
            calibration = self.judge.calibration
            found += [
                (
                    "judge",
                    RuleFinding(
                        one.name,
                        VerdictState.PASSED if one.is_reached else VerdictState.INCONCLUSIVE,
                        str(one),
                    ),
                )
                for one in (calibration.recall, calibration.specificity)
            ]
        return found

    @property
    def faults(self) -> str:
        """The number of failed requests to the judge by kind of fault."""
        faults = self.judge.judge.faults if self.judge else {}
        return ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items()))


def review_of(job: Collected, *, is_training: bool) -> ReviewReport | None:
    """Return the review of a job. None without ``data.quality``, and before the sample is written.

    ``is_training`` is True if a stage has started, so that the review was passed.
    """
    quality, sample = job.request.spec.data.quality, job.plan.data.review if job.plan else None
    if quality is None or sample is None:
        return None
    named = job.request.review_grader
    judge = assess_judge(sample.judge, named.agreement) if named and sample.judge else None
    record = job.review
    if record is None:
        record = ReviewRecord(sample=sample.sha256, votes=[])
        record = add_judge(record, sample, judge) if judge else record
    found = assess_review(sample, record, share(quality.min_score))
    if job.review is None and is_training:
        state = ReviewState.UNKNOWN
    elif not found.is_complete:
        state = ReviewState.WAITING
    else:
        state = ReviewState.PASSED if found.has_passed else ReviewState.FAILED
    return ReviewReport(
        state=state,
        found=found,
        judge=judge,
        reviewers=[votes.reviewer for votes in record.votes],
        bad=_shown_rows(job, found.bad[:MAX_SHOWN]),
    )


def _shown_rows(job: Collected, bad: Sequence[BadRow]) -> list[ShownRow]:
    texts = _texts(job, {row.id for row in bad})
    return [
        ShownRow(row.id, row.row, start_of(row.note, _SHOWN_NOTE), *texts.get(row.id, ("", "")))
        for row in bad
    ]


def _texts(job: Collected, ids: set[str]) -> Mapping[str, tuple[str, str]]:
    """Return prompt and completion of rows of the sample by the id of the row. Rows that were changed on the
    volume are left out, because their content has another id."""
    found: dict[str, tuple[str, str]] = {}
    if not ids:
        return found
    try:
        with (job.workspace / job.paths.review_sample).open(encoding="utf-8") as lines:
            for line in lines:
                row = with_id(ReviewRow.model_validate_json(line))
                if row.id in ids:
                    found[row.id] = (_prompt(row), _completion(row))
    except (OSError, ValueError) as error:
        logger.warning("rows of the review sample are left out of the report: %s", error)
    return found


def _prompt(row: ReviewRow) -> str:
    if len(row.prompt) == 1:
        return ends_of(row.prompt[0].content, _SHOWN_CHARACTERS)
    turns = [f"{message.role}: {message.content}" for message in row.prompt]
    return ends_of("\n".join(turns), _SHOWN_CHARACTERS)


def _completion(row: ReviewRow) -> str:
    calls = [call.model_dump_json(by_alias=True, exclude_none=True) for call in row.tool_calls or ()]
    return ends_of("\n".join(filter(None, (row.completion, *calls))), _SHOWN_CHARACTERS)
