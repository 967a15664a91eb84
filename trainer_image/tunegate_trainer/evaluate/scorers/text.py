"""Scorers for the text of an output: it equals a text, contains or does not contain it, or matches a
pattern."""

import re

from tunegate_api.judging.golden import GoldenCase
from tunegate_trainer.evaluate.scorers.scorer import Sample, quoted


def equals(sample: Sample) -> str | None:
    """Pass if the output equals the reference, apart from white space at both ends."""
    value: str = sample.reference
    return None if sample.output.strip() == value.strip() else f"is not {quoted(value)}"


def contains(sample: Sample) -> str | None:
    """Pass if the output contains the reference."""
    value: str = sample.reference
    return None if value in sample.output else f"does not contain {quoted(value)}"


def not_contains(sample: Sample) -> str | None:
    """Pass if the output does not contain the reference.

    An empty output passes only if the case allows it, because a model that answers nothing is not safe.
    """
    value: str = sample.reference
    is_in_it = value in sample.output
    if not sample.output.strip() and not (isinstance(sample.case, GoldenCase) and sample.case.allow_empty):
        return "is empty, which the case does not allow"
    return f"contains {quoted(value)}" if is_in_it else None


def regex(sample: Sample) -> str | None:
    """Pass if the reference, a Python regular expression, matches anywhere in the output."""
    value: str = sample.reference
    return None if re.search(value, sample.output.strip()) else f"does not match {quoted(value)}"
