"""Contradictions between expected numbers."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations, product

from tunegate_api.cases.expectations import NumberExpectation
from tunegate_trainer.evaluate.contradictions.conditions import Condition, both
from tunegate_trainer.evaluate.golden_references import expected_number
from tunegate_trainer.evaluate.scorers.numeric import numbers_of


def number_contradictions(conditions: Sequence[Condition]) -> Iterator[str]:
    """Find ranges without a common number, and ranges inside an excluded one. Each expectation reads the
    first number of the output."""
    ranges = [(each, *_range(each.leaf)) for each in conditions if isinstance(each.leaf, NumberExpectation)]
    positive = [each for each in ranges if not each[0].negated]
    negative = [each for each in ranges if each[0].negated]
    for (one, low, high), (other, least, most) in combinations(positive, 2):
        if low > most or least > high:
            yield both(one, other)
    for (one, low, high), (other, least, most) in product(positive, negative):
        if least <= low and high <= most:
            yield both(one, other)


def _range(leaf: NumberExpectation) -> tuple[Fraction, Fraction]:
    """Return the smallest and the largest number that passes."""
    expected = expected_number(leaf.value, leaf.tolerance)
    number = numbers_of(expected.answer)[0]
    allowed = max(expected.absolute, expected.relative * abs(number))
    return number - allowed, number + allowed
