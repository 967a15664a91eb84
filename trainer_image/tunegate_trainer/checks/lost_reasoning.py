"""Check for training rows whose reasoning the chat template leaves out, so that it is not trained on."""

from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.tokens.answers import answer_after
from tunegate_trainer.tokens.chat import render
from tunegate_trainer.tokens.reasoning import reasoning_marks, split_reasoning
from tunegate_trainer.tokens.rows import Row

NAME = "lost_reasoning"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Warn about training rows that have reasoning which the chat template does not render."""
    tokenizer = context.tokenizer
    trained = rows.rows.train
    of_training = (measured.labelled.row for measured in trained)
    reasoned = (row for row in of_training if _has_reasoning(tokenizer, row))
    lost = sum(
        not answer_after(tokenizer, row.prompt, row.answer, row.tools).has_reasoning for row in reasoned
    )
    if not lost:
        return
    yield Finding(
        severity=Severity.WARNING,
        message=f"the reasoning of {lost} of {len(trained)} training rows is not trained on, because the "
        "model's chat template leaves the reasoning out; model.chatTemplateArgs may change that",
        count=lost,
    )


def _has_reasoning(tokenizer: PreTrainedTokenizerBase, row: Row) -> bool:
    marks = reasoning_marks(tokenizer)
    if row.reasoning is not None or marks is None or marks.closes not in row.completion:
        return row.reasoning is not None
    prompt_text = render(tokenizer, row.prompt, row.tools)
    return split_reasoning(tokenizer, prompt_text, row.answer).reasoning_content is not None
