"""The value of a model must be high enough."""

from dataclasses import dataclass
from fractions import Fraction

from tunegate_api.meta import summarize
from tunegate_api.verdict.measured import Measured
from tunegate_api.verdict.outcomes import PASS, threshold_text

LOWEST_RATE = "minPassRate"


@dataclass(frozen=True)
class Minimum:
    """A model fails if its value is below ``minimum``, from 0 to 1. If
    all of the named ``cases`` must pass, the message names those that failed."""

    minimum: Fraction
    name: str = LOWEST_RATE
    label: str = "golden"
    """What has the value, in messages."""
    cases: tuple[str, ...] = ()
    compares: bool = False
    consequence: str = "too low a rate"

    def text(self, measured: Measured, /) -> str:
        if self.cases and self.minimum == 1:
            failed, passed = measured.failed, measured.letters.count(PASS)
            return f"{self.label}: {f'{summarize(failed, 5)} failed' if failed else f'{passed} passed'}"
        return f"{self.label} {measured.now.text}".rstrip() + f", required {threshold_text(self.minimum)}"

    def fails(self, measured: Measured, /) -> bool:
        return measured.now.highest < self.minimum

    def undecided(self, _part: Measured, /) -> str:
        return ""
