"""Types of outcomes, rules and verdicts, and how numbers are written in messages. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from tunegate_api.meta import Listed, StatusModel

PASS, FAIL, TRUNCATED, ERROR = "p", "f", "t", "e"
"""The letters of an outcome string. It has one letter per case, in the order of the cases in the set."""
SEALED = "s"
"""The letter of a case that was not evaluated, because it is sealed until the final gate. Wherever the case
counts, it is not measured."""

MAX_TRUNCATED = Fraction(5, 100)
"""If a larger share of a baseline's outputs was truncated, a comparison with the baseline can be
Inconclusive."""

MAX_CASES = 1000
"""Maximum number of cases in a set, so that all outcomes of a job fit in one ConfigMap."""

MAX_LABELS = 200
"""Maximum number of labels of a set whose names are reported."""


class VerdictState(StrEnum):
    """The result of a judgement, from best to worst."""

    PASSED = "Passed"
    """The model was measured and is good enough."""
    INCONCLUSIVE = "Inconclusive"
    """The model was measured, but there are too few cases to decide, or too many outputs of a baseline were
    truncated."""
    ERROR = "Error"
    """The model could not be measured."""
    FAILED = "Failed"
    """The model was measured and is not good enough."""

    @property
    def severity(self) -> int:
        """Position of the state in the order from best to worst. 0 is Passed."""
        return list(VerdictState).index(self)


def worst(states: Sequence[VerdictState]) -> VerdictState:
    """Return the most severe of ``states``. For an empty sequence, return Error, because nothing was
    measured."""
    return max(states, key=lambda s: s.severity, default=VerdictState.ERROR)


class DropPolicy(StrEnum):
    """How a model is compared with a baseline."""

    POINTS = "Points"
    """By the measured drop of the pass rate."""
    NON_INFERIOR = "NonInferior"
    """By the bounds of the true drop."""


class CaseSet(StatusModel):
    """The cases of a set. An outcome string has one letter for each case, in the same order."""

    sha256: str
    """Digest of the set. Two outcome strings can be compared only if the digests of their sets are equal."""
    ids: Annotated[Listed[str], Field(max_length=MAX_CASES)]
    tags: Annotated[Listed[Listed[str]], Field(max_length=MAX_CASES)] = []
    """Tags of each case. Empty if no case has tags."""
    groups: Annotated[Listed[int], Field(max_length=MAX_CASES)] = []
    """The number of each case's group, see :func:`group_numbers`. Empty if no two cases are in one group."""
    labels: Annotated[Listed[str], Field(max_length=MAX_LABELS)] | None = None
    """The labels that the cases expect, sorted, for F1. Long labels are cut. None for other metrics, and if
    there are more than MAX_LABELS labels."""

    def matching(self, name: str) -> list[int]:
        """Return the positions of the cases whose id or tag is ``name``."""
        tags = self.tags or [[]] * len(self.ids)
        return [i for i, case_id in enumerate(self.ids) if case_id == name or name in tags[i]]


NO_CASES = CaseSet(sha256="", ids=[])
"""An empty set, on which no outcome can pass."""


def group_numbers(*names: Sequence[str | None]) -> list[int]:
    """Return a number for the group of each case. Each of ``names``, such as the groups in the set and the
    prompts, has a name or None for each case. Cases with an equal name are in one group, and so are groups
    that share a case. Returns an empty list if no two cases are in one group."""
    firsts = list(range(len(names[0])))

    def first_of(case: int) -> int:
        while firsts[case] != case:
            case = firsts[case]
        return case

    for kind in names:
        known: dict[str, int] = {}
        for case, name in enumerate(kind):
            if name is not None:
                low, high = sorted((first_of(known.setdefault(name, case)), first_of(case)))
                firsts[high] = low
    numbers: dict[int, int] = {}
    found = [numbers.setdefault(first_of(case), len(numbers)) for case in firsts]
    return found if len(numbers) < len(found) else []


@dataclass(frozen=True)
class Baseline:
    """Earlier outcomes that a model is compared with. ``outcomes`` is None if the baseline should exist, but
    was not measured."""

    golden_sha256: str
    outcomes: str | None
    by_case: bool = True
    """Whether ``outcomes`` shows which case passed. If False, only the number of passed cases is known."""
    by_case_later: bool = False
    """Whether the outcomes by case will be read before the artifact is judged. Until then, unknown new
    failures do not prevent that a checkpoint passes."""
    version: str = ""
    """Name of the published version or of the model of an endpoint, for messages. Empty if not known."""
    problem: str = ""
    """Why a comparison with this baseline is not possible. Empty if a comparison is possible."""


@dataclass(frozen=True)
class RuleFinding:
    """The result of one rule."""

    rule: str
    state: VerdictState
    message: str


@dataclass(frozen=True)
class Verdict:
    """The results of all rules for one model or checkpoint, and the numbers on which these results are
    based."""

    findings: tuple[RuleFinding, ...]
    passed: int = 0
    total: int = 0
    delta_points: Mapping[str, Fraction] | None = None

    @property
    def state(self) -> VerdictState:
        return worst([f.state for f in self.findings])

    @property
    def message(self) -> str:
        """The messages of the findings with the worst state. If all findings passed, the messages of all
        findings."""
        return "; ".join(f.message for f in self.findings if f.state == self.state)


def passed_count(outcomes: str) -> int:
    return outcomes.count(PASS)


def counted_outcomes(passed: int, total: int) -> str:
    """Return an outcome string for ``total`` cases, of which ``passed`` passed. It replaces the outcomes of a
    published version of which only these two numbers are known."""
    return PASS * passed + FAIL * (total - passed)


def rate(passed: int, total: int) -> Fraction:
    """Return the exact pass rate; 0 for an empty set."""
    return Fraction(passed, total) if total else Fraction(0)


def rate_text(value: Fraction) -> str:
    """Format a rate as ``0.94``. Further digits are cut off, because a rounded rate could look equal to a
    threshold that it does not reach."""
    return f"{int(value * 100) / 100:.2f}"


def threshold_text(value: Fraction) -> str:
    """Format a threshold as ``0.94``, or with all digits if it has more than two decimal places."""
    return rate_text(value) if value * 100 % 1 == 0 else str(float(value))


def points_text(value: Fraction) -> str:
    """Format signed percentage points as ``-4.9``. Further digits are cut off, because a rounded drop could
    look equal to a limit that it does not reach."""
    tenths = int(abs(value) * 10)
    sign = "-" if value < 0 else "+"
    return f"{sign}{tenths // 10}.{tenths % 10}"


def new_failures(cases: CaseSet, before: str, now: str) -> list[str]:
    """Return the ids of the cases that failed, and that passed in ``before``."""
    letters = zip(cases.ids, before, now, strict=False)
    return [case for case, was, letter in letters if letter in FAIL + TRUNCATED and was == PASS]
