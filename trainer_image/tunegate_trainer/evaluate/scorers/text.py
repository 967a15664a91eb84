"""Expectations on the text of an output: equality, presence, absence, a pattern."""

import re

from tunegate_api.judging.golden import GoldenCase
from tunegate_trainer.evaluate.scorers.scorer import Sample, quoted


def equals(sample: Sample) -> str | None:
    """The reference, white space at both ends apart."""
    value: str = sample.reference
    return None if sample.output.strip() == value.strip() else f"is not {quoted(value)}"


def contains(sample: Sample) -> str | None:
    """The reference is somewhere in the output."""
    value: str = sample.reference
    return None if value in sample.output else f"does not contain {quoted(value)}"


def not_contains(sample: Sample) -> str | None:
    """The reference is nowhere in the output.

    An empty output passes only if the case allows it: a model that answers nothing is not a safe one.
    """
    value: str = sample.reference
    is_in_it = value in sample.output
    if not sample.output.strip() and not (isinstance(sample.case, GoldenCase) and sample.case.allow_empty):
        return "is empty, which the case does not allow"
    return f"contains {quoted(value)}" if is_in_it else None


def regex(sample: Sample) -> str | None:
    """The reference, a pattern of Python, matches somewhere in the output."""
    value: str = sample.reference
    return None if re.search(value, sample.output.strip()) else f"does not match {quoted(value)}"
