"""The task metric ExactMatch: the output equals the labelled answer."""

from tunegate_api.cases.normalize import normalized
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.exact.tool_calls import same_calls
from tunegate_trainer.graders.grader import Sample, quoted
from tunegate_trainer.tokens.rows import Row


def exact_match(sample: Sample) -> str | None:
    """Pass if the output equals the labelled answer after normalization. If the answer has tool calls, the
    tool calls are compared instead, without normalization."""
    expected: ExpectedText = sample.reference
    if isinstance(sample.case, Row) and sample.case.tool_calls:
        return same_calls(sample.output, expected.text)
    output, text = (normalized(each, expected.normalize) for each in (sample.output, expected.text))
    return None if output == text else f"is not {quoted(expected.text)}"
