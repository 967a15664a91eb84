"""Tiers of golden cases by their tags or ids: critical, supporting, advisory. No I/O.

Critical cases, ``must_pass``, fail a model at once. Advisory cases are reported, but count in no rate and no
comparison. All other cases are supporting: the other rules apply to them. Sealed cases count only for the
final model.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tunegate_api.meta import summarize
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.measured import Letters
from tunegate_api.verdict.outcomes import (
    ERROR,
    PASS,
    Baseline,
    CaseSet,
    RuleFinding,
    VerdictState,
)
from tunegate_api.verdict.sealed import sealed_positions


@dataclass(frozen=True)
class CountedCases:
    """The cases of a golden set that are not advisory and not sealed."""

    cases: CaseSet
    """All cases of the set."""
    positions: Sequence[int]
    """Positions of the cases that count."""
    sealed: Collection[int] = frozenset()
    """Positions of the sealed cases. Empty for the final model."""

    @property
    def counted(self) -> CaseSet:
        """The set of the cases that count. Its digest stays the same."""
        if self.is_whole:
            return self.cases
        tags = [self.cases.tags[i] for i in self.positions] if self.cases.tags else []
        # If the numbers of groups do not match the cases, they still do not match.
        groups = [self.cases.groups[i] for i in self.positions if i < len(self.cases.groups)]
        ids = [self.cases.ids[i] for i in self.positions]
        return self.cases.model_copy(update={"ids": ids, "tags": tags, "groups": groups})

    @property
    def is_whole(self) -> bool:
        return len(self.positions) == len(self.cases.ids)

    def of(self, outcomes: str) -> str:
        """Return the outcomes of the cases that count. Outcomes that are missing become errors."""
        if self.is_whole:
            return outcomes
        return "".join(outcomes[i : i + 1] or ERROR for i in self.positions)

    def missing(self, counted: str) -> int:
        """Return the number of cases that were not measured. ``counted`` are the outcomes of the cases that
        count."""
        return Letters(counted, len(self.positions)).missing

    def of_baseline(self, name: str, baseline: Baseline) -> Baseline:
        """Return the baseline with the outcomes of the cases that count.

        If only a number of passed cases is known, it must be the number of the cases that count now.
        """
        if baseline.outcomes is None or (self.is_whole and baseline.by_case):
            return baseline
        if baseline.by_case:
            return replace(baseline, outcomes=self.of(baseline.outcomes))
        if len(baseline.outcomes) != len(self.positions) and not baseline.problem:
            problem = (
                f"only the number of cases that {baseline.version or name} passed is recorded, with other "
                "advisory cases: publish another version, which records the cases"
            )
            return replace(baseline, problem=problem)
        return baseline


def counted_cases(cases: CaseSet, bar: Bar) -> CountedCases:
    """Return which cases count: all but the advisory and the sealed ones. A case that is also in
    ``must_pass`` counts."""
    sealed = sealed_positions(cases, bar.sealed, bar.must_pass)
    if not bar.advisory and not sealed:
        return CountedCases(cases, range(len(cases.ids)))
    advisory = {i for name in bar.advisory for i in cases.matching(name)}
    advisory -= {i for name in bar.must_pass for i in cases.matching(name)}
    left_out = advisory | sealed
    return CountedCases(cases, [i for i in range(len(cases.ids)) if i not in left_out], sealed)


def judge_tiers(counted: CountedCases, outcomes: str, bar: Bar) -> list[RuleFinding]:
    """Return an Error for each required id or tag without a case that counts, and the result of the advisory
    cases, which always passes."""
    present = counted.counted
    findings = [
        RuleFinding(
            "requiredTags", VerdictState.ERROR, f"required tag {tag}: no golden case that counts has it"
        )
        for tag in bar.required_tags
        if not present.matching(tag)
    ]
    if counted.is_whole:
        return findings
    advisory = sorted(set(range(len(counted.cases.ids))) - {*counted.positions, *counted.sealed})
    if not advisory:
        return findings
    failed = [counted.cases.ids[i] for i in advisory if outcomes[i : i + 1] != PASS]
    message = f"advisory {len(advisory) - len(failed)}/{len(advisory)} passed"
    if failed:
        message += f", not {summarize(failed, 5)}"
    return [*findings, RuleFinding("advisory", VerdictState.PASSED, message)]
