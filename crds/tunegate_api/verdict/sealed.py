"""Sealed golden cases: a share of the cases that only the final gate evaluates. No I/O.

Checkpoints are evaluated on the open cases, and the best of them is selected. So the rate of the open cases
is optimistic, and that of the sealed cases is not.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from tunegate_api.verdict.outcomes import CaseSet, passed_count, rate, rate_text


def sealed_positions(cases: CaseSet, share: Fraction | None, must_pass: Sequence[str]) -> frozenset[int]:
    """Return the positions of the sealed cases: at most ``share`` of all cases, and none without a share.

    Nobody chooses them: cases are taken in the order of the SHA-256 of the set's digest and the case id. A
    group of cases is sealed as a whole, or not at all if it does not fit into the share any more; its id is
    the smallest id of its cases. ``must_pass`` cases and their groups are never sealed, because training
    stops at once if they fail.
    """
    if share is None:
        return frozenset()
    critical = frozenset(i for name in must_pass for i in cases.matching(name))
    # Groups that do not match the cases are ignored, as other functions do.
    groups = tuple(cases.groups) if len(cases.groups) == len(cases.ids) else ()
    return _sealed(cases.sha256, tuple(cases.ids), groups, critical, int(share * len(cases.ids)))


@lru_cache(maxsize=64)
def _sealed(
    digest: str, ids: tuple[str, ...], groups: tuple[int, ...], critical: frozenset[int], room: int
) -> frozenset[int]:
    members: dict[int, list[int]] = {}
    for position in range(len(ids)):
        members.setdefault(groups[position] if groups else position, []).append(position)
    sealed: set[int] = set()
    for group in sorted(members.values(), key=lambda each: _order(digest, min(ids[i] for i in each))):
        if critical.isdisjoint(group) and len(sealed) + len(group) <= room:
            sealed.update(group)
    return frozenset(sealed)


def _order(digest: str, case_id: str) -> str:
    return hashlib.sha256(f"{digest}/{case_id}".encode()).hexdigest()


@dataclass(frozen=True)
class Parts:
    """The passed cases of a final model, apart for open and sealed cases. Advisory cases do not count."""

    open_passed: int
    open_total: int
    sealed_passed: int
    sealed_total: int

    @property
    def text(self) -> str:
        parts = (
            ("open", self.open_passed, self.open_total),
            ("sealed", self.sealed_passed, self.sealed_total),
        )
        return ", ".join(
            f"{name} {passed}/{total} = {rate_text(rate(passed, total))}" for name, passed, total in parts
        )


def measured_parts(outcomes: str, counted: Sequence[int], sealed: Collection[int]) -> Parts | None:
    """Return the passed cases of the ``counted`` positions by part; None if none of them is ``sealed``."""
    letters = [(i in sealed, outcomes[i : i + 1]) for i in counted]
    by_part = {
        part: "".join(letter for is_sealed, letter in letters if is_sealed is part) for part in (True, False)
    }
    total = sum(is_sealed for is_sealed, _ in letters)
    if not total:
        return None
    return Parts(
        open_passed=passed_count(by_part[False]),
        open_total=len(letters) - total,
        sealed_passed=passed_count(by_part[True]),
        sealed_total=total,
    )
