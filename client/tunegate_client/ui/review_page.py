"""What a person scores in a review: the rows of its sample."""

from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.meta import printable
from tunegate_client.places.review import OpenReview
from tunegate_client.places.review_session import (
    already_scored_text,
    answer_of,
    counts_text,
    message_text,
    scored_by,
)
from tunegate_client.ui.scoring import AnswerChoice, Questionnaire

CHOICES = (AnswerChoice("y", True, "Good", "good"), AnswerChoice("n", False, "Bad", "bad"))
_PREVIEW = 80
"""Length of the line about a row in the list of all rows, in characters."""


def review_questionnaire(review: OpenReview, resume: str) -> Questionnaire[bool]:
    """Return what the page shows for the sample of a job."""
    by_id = {row.id: row for row in review.rows}
    previews = {row.id: _preview(row) for row in review.rows}
    return Questionnaire(
        title=f"Review of {review.job}",
        question="Is the answer what the model should learn to answer to this prompt?",
        noun="row",
        choices=lambda _: CHOICES,
        template="review_row.html.j2",
        content=lambda row: {
            "row": by_id[row],
            "answer": answer_of(by_id[row]),
            "already": already_scored_text(row, review),
        },
        preview=previews.__getitem__,
        counts=lambda session: counts_text(session, review),
        resume=resume,
        scored_by=lambda row: scored_by(row, review),
        already=review.already_text,
    )


def _preview(row: ReviewRow) -> str:
    """Return the start of the last turn of the prompt."""
    return printable(" ".join(message_text(row.prompt[-1]).split())[:_PREVIEW]) if row.prompt else ""
