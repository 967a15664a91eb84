"""Scorers for the text of an output: it equals a text, starts with it, contains or does not contain it, or
matches a pattern."""

import re

from tunegate_api.cases.ecma_regex import code_units, python_pattern
from tunegate_api.cases.normalize import without_differences
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.grader import Sample, quoted


def equals(sample: Sample) -> str | None:
    """Pass if the output, or the answer in it, equals the reference, apart from white space at both ends."""
    expected: ExpectedText = sample.reference
    answer = expected.answer(sample.output)
    if answer is None:
        return f"has no answer {quoted(expected.text)}: the pattern of extract does not match"
    same = expected.compared(answer) == expected.compared(expected.text)
    answered = "" if answer == sample.output else f"has the answer {quoted(answer)}, which "
    return None if same else f"{answered}is not {quoted(expected.text)}"


def starts_with(sample: Sample) -> str | None:
    """Pass if the output starts with the reference, apart from white space before it."""
    expected: ExpectedText = sample.reference
    output = expected.compared(sample.output)
    start = without_differences(expected.text, expected.normalize)
    start = start.lstrip() if expected.trim else start
    return None if output.startswith(start) else f"does not start with {quoted(expected.text)}"


def contains(sample: Sample) -> str | None:
    """Pass if the output contains the reference."""
    expected: ExpectedText = sample.reference
    return None if _is_in(expected, sample.output) else f"does not contain {quoted(expected.text)}"


def not_contains(sample: Sample) -> str | None:
    """Pass if the output does not contain the reference."""
    expected: ExpectedText = sample.reference
    return f"contains {quoted(expected.text)}" if _is_in(expected, sample.output) else None


def regex(sample: Sample) -> str | None:
    """Pass if the reference, a regular expression of Python or JavaScript, matches anywhere in the output."""
    expected: ExpectedText = sample.reference
    output, pattern = expected.compared(sample.output), expected.text
    if expected.dialect == "JavaScript":
        output, pattern = code_units(output), python_pattern(pattern)
    return None if re.search(pattern, output) else f"does not match {quoted(expected.text)}"


def _is_in(expected: ExpectedText, output: str) -> bool:
    forms = expected.normalize
    return without_differences(expected.text, forms) in without_differences(output, forms)
