"""The policy Points: compare the measured drop with the limit. No I/O."""

from fractions import Fraction

from tunegate_api.judging.outcomes import points_text
from tunegate_api.judging.paired import Compared, PairedCounts


class Points:
    """A drop of the limit or more fails, and a smaller drop passes. Chance is not taken into account."""

    if_truncated = "a drop"

    def text(self, compared: Compared, /) -> str:
        return f"{points_text(compared.delta)} points, limit {points_text(-compared.limit)}"

    def fails(self, counts: PairedCounts, limit: Fraction, /) -> bool:
        return counts.drop >= limit

    def passes(self, counts: PairedCounts, limit: Fraction, /) -> bool:
        return counts.drop < limit

    def undecided(self, compared: Compared, _message: str, /) -> str:
        total, limit = compared.counts.total, compared.limit
        if total * limit >= 100:
            return ""
        drop = f"a drop of {float(limit):g} points below {compared.label}"
        return f"{total} golden cases are too few to detect {drop}: have at least {-int(-100 // limit)}"
