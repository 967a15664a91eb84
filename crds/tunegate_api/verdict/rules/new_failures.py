"""Not too many of the cases that a comparator passes may fail."""

from dataclasses import dataclass

from tunegate_api.meta import summarize
from tunegate_api.verdict.allowed_failures import Limit, allowed
from tunegate_api.verdict.measured import Measured
from tunegate_api.verdict.rules.drop import TO_RECORD_CASES


@dataclass(frozen=True)
class NewFailures:
    """A model fails if more cases than the limit ``most`` fail that pass for the comparator, even if as many
    other cases were fixed."""

    most: Limit = None
    name: str = "maxNewFailures"
    cases: tuple[str, ...] = ()
    compares: bool = True
    consequence: str = "too many new failures"

    def text(self, measured: Measured, /) -> str:
        if not measured.before.by_case:
            cases = f"only the number of cases that {measured.before.label} passes is recorded"
            return f"new failures unknown, because {cases}"
        new = measured.new_failures
        if not new:
            return ""
        return f"new failures {len(new)}, at most {self._allowed(measured)}: {summarize(new, 5)}"

    def fails(self, measured: Measured, /) -> bool:
        return len(measured.new_failures) > self._allowed(measured)

    def undecided(self, measured: Measured, /) -> str:
        before = measured.before
        if before.by_case or before.by_case_later or self.most is None:
            return ""
        return f": {TO_RECORD_CASES}, or remove maxNewFailures"

    def _allowed(self, measured: Measured) -> int:
        return allowed(self.most, measured.total, measured.cases.groups)
