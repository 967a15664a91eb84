"""The value of a model must not be lower than that of a comparator by a limit or more."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from tunegate_api.verdict.measured import Measured
from tunegate_api.verdict.outcomes import DropPolicy
from tunegate_api.verdict.rules.measured_drop import MeasuredDrop
from tunegate_api.verdict.rules.non_inferior import NonInferior

TO_RECORD_CASES = "publish another version, which records them"


class DropTest(Protocol):
    """How a drop is compared with a limit, which is in percentage points."""

    consequence: str
    """What a model has if the drop is not small enough."""

    def text(self, measured: Measured, limit: Fraction, /) -> str:
        """Return the drop and the limit for a message."""

    def fails(self, measured: Measured, limit: Fraction, /) -> bool:
        """Return whether the drop is too large."""

    def undecided(self, measured: Measured, limit: Fraction, /) -> str:
        """Return why a drop that is not too large is not known to be small enough; empty if it is."""


TESTS: Mapping[DropPolicy, DropTest] = {
    DropPolicy.POINTS: MeasuredDrop(),
    DropPolicy.NON_INFERIOR: NonInferior(),
}


@dataclass(frozen=True)
class Drop:
    """A model fails if its value is lower than that of the comparator by ``limit`` or more."""

    limit: Fraction
    """In percentage points, or a number of cases."""
    is_of_cases: bool = False
    policy: DropPolicy = DropPolicy.POINTS
    name: str = "failAtDrop"
    cases: tuple[str, ...] = ()
    compares: bool = True

    @property
    def consequence(self) -> str:
        return TESTS[self.policy].consequence

    def text(self, measured: Measured, /) -> str:
        return TESTS[self._policy_for(measured)].text(measured, self._points(measured))

    def fails(self, measured: Measured, /) -> bool:
        policy = self._policy_for(measured)
        return self._can_test(policy, measured) and TESTS[policy].fails(measured, self._points(measured))

    def undecided(self, measured: Measured, /) -> str:
        policy = self._policy_for(measured)
        if not self._can_test(policy, measured):
            return f": {TO_RECORD_CASES}, or leave test out"
        return "" if self.is_of_cases else TESTS[policy].undecided(measured, self._points(measured))

    def _points(self, measured: Measured) -> Fraction:
        return Fraction(100 * self.limit, measured.total) if self.is_of_cases else self.limit

    def _can_test(self, policy: DropPolicy, measured: Measured) -> bool:
        return measured.before.by_case or policy is DropPolicy.POINTS

    def _policy_for(self, measured: Measured) -> DropPolicy:
        is_counted = measured.before.by_case_later and not measured.before.by_case
        return DropPolicy.POINTS if is_counted else self.policy
