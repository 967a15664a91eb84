"""The test Points of a drop: compare the measured drop with the limit."""

from fractions import Fraction

from tunegate_api.verdict.measured import Measured
from tunegate_api.verdict.outcomes import points_text


class MeasuredDrop:
    """A drop of the limit or more fails, and a smaller drop passes. Chance is not taken into account."""

    consequence = "a drop"

    def text(self, measured: Measured, limit: Fraction, /) -> str:
        return f"{points_text(measured.delta)} points, limit {points_text(-limit)}"

    def fails(self, measured: Measured, limit: Fraction, /) -> bool:
        return measured.drop >= limit

    def undecided(self, measured: Measured, limit: Fraction, /) -> str:
        if measured.total * limit >= 100:
            return ""
        total, drop = measured.total, f"a drop of {float(limit):g} points below {measured.before.label}"
        return f": {total} golden cases are too few to detect {drop}: have at least {-int(-100 // limit)}"
