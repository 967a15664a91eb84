"""A model must not lose too large a share of the cases that a comparator passes."""

from dataclasses import dataclass
from fractions import Fraction

from tunegate_api.verdict.measured import Measured
from tunegate_api.verdict.outcomes import rate, rate_text, threshold_text


@dataclass(frozen=True)
class RelativeDrop:
    """A model fails if it loses more than the share ``most``, from 0 to 1."""

    most: Fraction
    name: str = "maxRelativeDrop"
    cases: tuple[str, ...] = ()
    compares: bool = True
    consequence: str = "too large a relative drop"

    def text(self, measured: Measured, /) -> str:
        before = measured.before.score.value
        if not before:
            return ""
        passed = int(before * measured.total)
        lost = max(0, passed - int(measured.now.value * measured.total))
        return f"lost {lost}/{passed} = {rate_text(rate(lost, passed))}, at most {threshold_text(self.most)}"

    def fails(self, measured: Measured, /) -> bool:
        return measured.drop > self.most * 100 * measured.before.score.value

    def undecided(self, _part: Measured, /) -> str:
        return ""
