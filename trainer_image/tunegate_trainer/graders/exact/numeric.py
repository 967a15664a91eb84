"""The task metric numeric: the first number of the output equals the labelled number, within a tolerance."""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from tunegate_trainer.graders.grader import Sample

_NUMBER = re.compile(
    r"(?:(?<![\w.])[-+])?"  # a sign directly after a letter, a digit or a point is a hyphen
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
    r"(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?"
    r"|(?:(?<![\w.])[-+])?(?<![0-9])\.[0-9]+(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?"
)
NUMBER_CHARACTERS = "+-\u2212.,0123456789eE"
"""All characters that a number can have."""
_MAX_DIGITS = 400
"""Maximum length of a number as text. Longer sequences of digits are not numbers."""


@dataclass(frozen=True)
class ExpectedNumber:
    """The labelled answer, and the allowed distance from its number."""

    answer: str
    absolute: Fraction = Fraction(0)
    relative: Fraction = Fraction(0)


def numeric(sample: Sample) -> str | None:
    """Pass if the first number of the output is at most the larger of both tolerances away from the labelled
    number.

    Raises ValueError, which makes the sample an error, if the labelled answer has no number.
    """
    expected: ExpectedNumber = sample.reference
    found, numbers = numbers_of(sample.output), numbers_of(expected.answer)
    if not numbers:
        raise ValueError("the labelled answer has no number")
    if not found:
        return "has no number"
    allowed = max(expected.absolute, expected.relative * abs(numbers[0]))
    distance = abs(found[0] - numbers[0])
    if distance <= allowed:
        return None
    return f"has {_text(found[0])}, expected {_text(numbers[0])} with a tolerance of {_text(allowed)}"


def numbers_of(text: str) -> list[Fraction]:
    """Return the numbers of a text as exact fractions.

    A number is digits with an optional sign, decimal point and exponent: ``-3``, ``.5``, ``1e-3``. Commas
    between groups of three digits are thousands separators: ``1,234.5``. Other text, such as a currency or a
    unit, is ignored and does not scale the number: ``12 %`` is 12. The minus sign U+2212 is read like a
    hyphen.
    """
    matches = (match[0] for match in _NUMBER.finditer(text.replace("\u2212", "-")))
    return [Fraction(each.replace(",", "")) for each in matches if len(each) <= _MAX_DIGITS]


def _text(value: Fraction) -> str:
    return f"{Decimal(value.numerator) / Decimal(value.denominator):.6g}"
