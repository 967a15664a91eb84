"""What was measured: the outcomes of a model, and of a comparator, on some cases of a set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Protocol

from tunegate_api.verdict.groups import independent_cases
from tunegate_api.verdict.outcomes import (
    ERROR,
    FAIL,
    MAX_TRUNCATED,
    PASS,
    TRUNCATED,
    CaseSet,
    new_failures,
    passed_count,
    rate,
    rate_text,
)
from tunegate_api.verdict.paired import PairedCounts


class SetScore(Protocol):
    """How good a subject is on ``total`` cases, from 0 to 1."""

    @property
    def total(self) -> int: ...

    @property
    def reported(self) -> int:
        """Number of cases for which a result was reported. If it is more than ``total``, the results are of
        another set."""

    @property
    def missing(self) -> int:
        """Number of cases that were not measured."""

    @property
    def value(self) -> Fraction:
        """The measured value. A case that was not measured is not good."""

    @property
    def highest(self) -> Fraction:
        """The value if all cases that were not measured were as good as possible."""

    @property
    def text(self) -> str:
        """The value with how it was computed, for messages."""


@dataclass(frozen=True)
class Letters:
    """Outcomes that pass or fail. Their value is the pass rate. A case without a letter was not measured.

    :class:`tunegate_api.verdict.counts.CountedMetric` is the other kind of score.
    """

    letters: str
    """One letter per case, see :mod:`tunegate_api.verdict.outcomes`."""
    total: int

    @property
    def reported(self) -> int:
        return len(self.letters)

    @cached_property
    def passed(self) -> int:
        return passed_count(self.letters)

    @cached_property
    def missing(self) -> int:
        return max(0, self.total - sum(self.letters.count(letter) for letter in PASS + FAIL + TRUNCATED))

    @property
    def value(self) -> Fraction:
        return rate(self.passed, self.total)

    @property
    def highest(self) -> Fraction:
        return rate(self.passed + self.missing, self.total)

    @property
    def text(self) -> str:
        return f"{self.passed}/{self.total} = {rate_text(self.value)}"

    def with_passed(self, letters: str) -> "Letters":
        """Return the outcomes as if the cases with these letters had passed."""
        return Letters(self.letters.translate(dict.fromkeys(map(ord, letters), PASS)), self.total)


@dataclass(frozen=True)
class Comparator:
    """Outcomes that a model is compared with, on the same cases."""

    label: str
    """Its name in messages."""
    score: SetScore
    by_case: bool = True
    """Whether it is known which cases passed. If False, only their number is known."""
    by_case_later: bool = False
    """Whether this will be known before the artifact is judged. Until then, a rule that needs it does not
    prevent that a checkpoint passes."""
    tolerance: Fraction = Fraction(0)
    """The largest share of the cases that may be missing. They count as passed, so the model can only lose by
    it. If the tolerance is not 0, one case may always be missing."""

    @property
    def letters(self) -> str:
        """The outcomes. Empty if the score has no outcomes that pass or fail."""
        return self.score.letters if isinstance(self.score, Letters) else ""

    def with_passed(self, letters: str) -> "Comparator":
        """Return the comparator as if its cases with these letters had passed."""
        return replace(self, score=Letters(self.letters, self.score.total).with_passed(letters))

    @property
    def truncated(self) -> int:
        """The number of truncated outputs if they are so many that its value may be too low, otherwise 0."""
        number = self.letters.count(TRUNCATED)
        return number if rate(number, self.score.total) > MAX_TRUNCATED else 0


NOTHING = Comparator("", Letters("", 0))


@dataclass(frozen=True)
class Measured:
    """Some cases of a set, with the outcomes of a model, and those of a comparator for a rule that
    compares."""

    cases: CaseSet
    now: SetScore
    before: Comparator = NOTHING

    @property
    def total(self) -> int:
        return self.now.total

    @property
    def letters(self) -> str:
        """The outcomes of the model. Empty if the score has no outcomes that pass or fail."""
        return self.now.letters if isinstance(self.now, Letters) else ""

    @property
    def failed(self) -> list[str]:
        """Ids of the cases that the model failed."""
        outcomes = zip(self.cases.ids, self.letters, strict=False)
        return [case for case, letter in outcomes if letter in FAIL + TRUNCATED]

    def of(self, names: Sequence[str]) -> "Measured":
        """Return the same for the cases whose id or tag is one of ``names``, or for all cases if there are no
        names. A comparator of which only the number of passed cases is known was not measured on them."""
        if not names:
            return self
        positions = sorted({i for name in names for i in self.cases.matching(name)})
        groups = self.cases.groups

        def part(letters: str) -> Letters:
            return Letters("".join(letters[i : i + 1] or ERROR for i in positions), len(positions))

        ids = [self.cases.ids[i] for i in positions]
        picked = {"ids": ids, "tags": [], "groups": [groups[i] for i in positions if i < len(groups)]}
        before = self.before
        if before is not NOTHING:
            before = replace(before, score=part(before.letters if before.by_case else ""))
        return Measured(self.cases.model_copy(update=picked), part(self.letters), before)

    @property
    def drop(self) -> Fraction:
        """The drop of the value in percentage points, if all cases that were not measured were as good as
        possible for the model. It is negative if the model is better."""
        return 100 * (self.before.score.value - self.now.highest)

    @property
    def delta(self) -> Fraction:
        """The difference of the measured values in percentage points. It is negative if the model is
        worse."""
        return 100 * (self.now.value - self.before.score.value)

    @cached_property
    def counts(self) -> PairedCounts:
        """The cases whose outcome changed. A case of the model that was not measured counts as passed."""
        before, now, total = self.before.letters[: self.total], self.letters[: self.total], self.total
        failing = FAIL + TRUNCATED
        regressed = sum(was == PASS and is_now in failing for was, is_now in zip(before, now, strict=False))
        failed = sum(now.count(letter) for letter in failing)
        independent = independent_cases(total, self.cases.groups)
        return PairedCounts(
            total,
            regressed,
            improved=total - passed_count(before) - failed + regressed,
            independent=independent if independent < total else None,
        )

    @cached_property
    def new_failures(self) -> list[str]:
        """Ids of the cases that the comparator passed and the model failed. Empty if it is not known which
        cases the comparator passed."""
        return new_failures(self.cases, self.before.letters, self.letters) if self.before.by_case else []
