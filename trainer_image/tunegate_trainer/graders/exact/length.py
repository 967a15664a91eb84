"""Grader for the length of an output."""

from tunegate_api.cases.expectations import LengthExpectation
from tunegate_trainer.graders.grader import Sample


def length(sample: Sample) -> str | None:
    """Pass if the number of characters, words or lines of the output, without white space at its ends, is in
    the expected range."""
    expected: LengthExpectation = sample.reference
    count = counted_length(sample.output, expected.unit)
    if expected.min is not None and count < expected.min:
        return f"has {count} {expected.unit.lower()}, expected at least {expected.min}"
    if expected.max is not None and count > expected.max:
        return f"has {count} {expected.unit.lower()}, expected at most {expected.max}"
    return None


def counted_length(output: str, unit: str) -> int:
    """Return the length of an output in this unit, without white space at its ends."""
    text = output.strip()
    return {"Characters": len(text), "Words": len(text.split()), "Lines": len(text.splitlines())}[unit]
