"""The policy NonInferior: pass only if the cases show that the drop is below the limit. No I/O."""

from fractions import Fraction

from tunegate_api.judging.paired import Compared, PairedCounts, bounds, fewest_cases, is_at_least, is_below


class NonInferior:
    """If the upper 95 % bound of the drop is below the limit, the model passes, and if the lower one is at or
    above it, the model fails. The bounds are those of :mod:`tunegate_api.judging.paired`."""

    if_truncated = "undecided"

    def text(self, compared: Compared, /) -> str:
        text = f"drop {_tenths(int(-10 * compared.delta))} points, "
        if compared.is_complete:
            low, high = bounds(compared.counts, compared.limit)
            text += f"95 % bounds {_tenths(low)} and {_tenths(high)}, "
            if compared.counts.independent is not None:
                text += f"groups count as {compared.counts.independent} independent cases, "
        return f"{text}limit {_tenths(int(10 * compared.limit))}"

    def fails(self, counts: PairedCounts, limit: Fraction, /) -> bool:
        return is_at_least(counts, limit)

    def passes(self, counts: PairedCounts, limit: Fraction, /) -> bool:
        return is_below(counts, limit)

    def undecided(self, compared: Compared, message: str, /) -> str:
        if self.passes(compared.counts, compared.limit):
            return ""
        counts, fewest = compared.counts, fewest_cases(compared.limit)
        total = counts.of_independent.total
        if total >= fewest:
            return f"{message}: the limit is between the bounds, so have more golden cases"
        kind = "golden" if counts.independent is None else "independent"
        return (
            f"{message}: {total} {kind} cases are too few to show a smaller drop of a model with the same "
            f"outcomes: have at least {fewest}"
        )


def _tenths(tenths: int) -> str:
    return f"{tenths / 10:.1f}"
