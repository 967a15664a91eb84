"""The test NonInferior of a drop: pass only if the cases show that the drop is below the limit."""

from fractions import Fraction

from tunegate_api.verdict.measured import Measured
from tunegate_api.verdict.paired import bounds, fewest_cases, is_at_least, is_below


class NonInferior:
    """If the upper one-sided 95 % bound of the drop is below the limit, the model passes, and if the lower
    one is at or above it, the model fails. Both bounds together are a 90 % interval, see
    :mod:`tunegate_api.verdict.paired`."""

    consequence = "undecided"

    def text(self, measured: Measured, limit: Fraction, /) -> str:
        text = f"drop {_tenths(int(-10 * measured.delta))} points, "
        if measured.before.by_case and not measured.now.missing and not measured.before.score.missing:
            low, high = bounds(measured.counts, limit)
            text += f"90 % interval {_tenths(low)} to {_tenths(high)}, "
            if measured.counts.independent is not None:
                text += f"groups count as {measured.counts.independent} independent cases, "
        return f"{text}limit {_tenths(int(10 * limit))}"

    def fails(self, measured: Measured, limit: Fraction, /) -> bool:
        return is_at_least(measured.counts, limit)

    def undecided(self, measured: Measured, limit: Fraction, /) -> str:
        counts = measured.counts
        if is_below(counts, limit):
            return ""
        fewest, total = fewest_cases(limit), counts.of_independent.total
        if total >= fewest:
            return ": the limit is between the bounds, so have more golden cases"
        kind = "golden" if counts.independent is None else "independent"
        return (
            f": {total} {kind} cases are too few to show a smaller drop of a model with the same "
            f"outcomes: have at least {fewest}"
        )


def _tenths(tenths: int) -> str:
    return f"{tenths / 10:.1f}"
