"""The task metric exact_match: the output equals the labelled answer."""

from tunegate_trainer.evaluate.scorers.scorer import Sample
from tunegate_trainer.evaluate.scorers.text import equals
from tunegate_trainer.evaluate.scorers.tool_calls import tool_calls_equal
from tunegate_trainer.tokens.rows import Row


def exact_match(sample: Sample) -> str | None:
    """Pass if the output equals the labelled answer. If the answer has tool calls, the tool calls are
    compared."""
    calls = isinstance(sample.case, Row) and sample.case.tool_calls
    return tool_calls_equal(sample) if calls else equals(sample)
