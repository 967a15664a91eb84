"""Check for earlier answers that cannot be trained on, for example because the chat template changes them.

An earlier answer is any assistant turn of a chat except the last one.
"""

from collections.abc import Iterator

from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.tokens.answers import is_rewritten

NAME = "rewritten_answers"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Warn if the template changes or drops earlier answers, or if a slow tokenizer cannot locate them."""
    tokenizer = context.tokenizer
    trained = rows.rows.train
    chats = [measured.labelled for measured in trained if measured.labelled.has_answers]
    if not tokenizer.is_fast:
        if chats:
            yield _finding(len(chats), _SLOW_TOKENIZER)
        return
    of_chats = (labelled.row for labelled in chats)
    changed = sum(is_rewritten(tokenizer, row.prompt, row.tools) for row in of_chats)
    if changed:
        yield _finding(
            changed,
            f"the model's chat template changes earlier answers of {changed} of {len(trained)} training "
            "rows: these answers are not trained on, but the last answer of each row is",
        )


_SLOW_TOKENIZER = (
    "the model has no fast tokenizer, which is needed to locate earlier answers in a chat: only the last "
    "answer of each row is trained on; to train on all answers, add a tokenizer.json to the model"
)


def _finding(count: int, message: str) -> Finding:
    return Finding(severity=Severity.WARNING, message=message, count=count)
