"""Select the best checkpoint of a stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tunegate_api.verdict.outcomes import VerdictState


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that the next stage or the final gate could use."""

    step: int
    verdict: VerdictState
    golden: Fraction
    """Golden pass rate. With several gates, the sum of the pass rates of all gates that are not in a dry
    run."""
    dev: Fraction
    """Value of the task metric on the dev split. With several task metrics, the sum of their values."""


def select_best(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the best candidate that passed: the one with the highest golden pass rate. If several have this
    rate, the one with the highest dev metric, and then the earliest. Returns None if no candidate passed."""
    passing = [c for c in candidates if c.verdict is VerdictState.PASSED]
    return max(passing, key=lambda c: (c.golden, c.dev, -c.step), default=None)
