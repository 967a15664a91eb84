"""Check for completions that refuse a request, or in which the writer says that it is an AI."""

from typing import Any

from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.row_texts import learned_answers
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import share_finding
from tunegate_trainer.data.excerpts import start_of
from tunegate_trainer.data.refusals import is_unhelpful
from tunegate_trainer.data.usable import UsableRow

NAME = "refusals"


def run(rows: UsableRows, _context: CheckContext) -> list[Finding]:
    """Find rows with an answer that starts with a refusal, or with a statement that its writer is an AI.

    All answers of a chat that are trained on are read, and the chosen answers of pairs: rejected answers may
    be refusals. Patterns are matched in English, and the most usual ones in eight other languages.
    """
    return share_finding(
        NAME,
        rows,
        _refusal,
        "an answer that refuses the request, or in which the writer says that it is an AI",
        "remove these rows, or write answers to them, because the model learns to refuse from them; if it is "
        "meant to learn to refuse, raise max of Refusals in data.checks, or set the policy to Off",
    )


def _refusal(measured: UsableRow[Any]) -> str | None:
    for answer in learned_answers(measured.labelled.row):
        if is_unhelpful(answer):
            return start_of(answer)
    return None
