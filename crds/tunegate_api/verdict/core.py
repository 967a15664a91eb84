"""Judge a model by rules. Every verdict is made here: of checkpoints, final models and models in CI.

A rule says what fails, whatever the outcomes of the cases that were not measured are, and what cannot be
decided although all cases were measured. The rest is the same for all rules, see :func:`state`. So an outcome
that is missing never makes a model pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tunegate_api.verdict.measured import Measured
from tunegate_api.verdict.outcomes import ERROR, TRUNCATED, VerdictState


class Rule(Protocol):
    """A condition that a model must meet on some cases.

    Neither :meth:`fails` nor :meth:`undecided` may get better for a model if one of its cases fails, or if a
    case of the comparator passes.
    """

    @property
    def name(self) -> str: ...

    @property
    def cases(self) -> Sequence[str]:
        """Ids or tags of the cases that the rule is about. Empty: all cases that count."""

    @property
    def compares(self) -> bool:
        """Whether the rule compares with each comparator. If not, it judges the model alone."""

    @property
    def consequence(self) -> str:
        """What a model that does not meet the condition has, such as ``a drop``."""

    def text(self, measured: Measured, /) -> str:
        """Return the arithmetic for a message. Empty if there is nothing to say."""

    def fails(self, measured: Measured, /) -> bool:
        """Return whether the condition is not met even if all cases of the model that were not measured are
        as good as possible, and those of the comparator as bad as possible."""

    def undecided(self, measured: Measured, /) -> str:
        """Return why a model that does not fail is not known to meet the condition, although all cases were
        measured. Empty if it meets the condition."""


@dataclass(frozen=True)
class Found:
    """What a rule found."""

    rule: Rule
    state: VerdictState
    text: str
    """The arithmetic."""
    reason: str = ""
    """The end of the message, for a state that is neither Passed nor Failed."""


def found(rule: Rule, measured: Measured) -> Found:
    """Judge outcomes by a rule, with a message. :func:`state` gives the same state in less time."""
    if not measured.total:
        text = f"{rule.name} {', '.join(rule.cases)}"
        return Found(rule, VerdictState.ERROR, text, ": no golden case has this id or tag")
    text = rule.text(measured)
    is_state = state(rule, measured)
    reason = ""
    if is_state is VerdictState.ERROR:
        reason = f", {measured.now.missing + measured.before.score.missing} not measured"
    elif is_state is VerdictState.INCONCLUSIVE:
        before = measured.before
        reason = rule.undecided(measured) or (
            f", but {before.truncated} outputs of {before.label} were truncated, and if they had passed, "
            f"this would be {rule.consequence}: raise generation.maxNewTokens"
        )
    return Found(rule, is_state, text, reason)


def state(rule: Rule, measured: Measured) -> VerdictState:
    """Judge outcomes by a rule.

    *Failed* if the rule fails, whatever the outcomes are that are missing. *Error* if there are no cases,
    or if an outcome is missing that could change this, see :attr:`Comparator.tolerance`. *Inconclusive* if
    the rule cannot decide, or if it would not pass if the truncated outputs of the comparator had passed, and
    these are many. Otherwise *Passed*.
    """
    if not measured.total:
        return VerdictState.ERROR
    if rule.fails(measured):
        return VerdictState.FAILED
    if measured.now.missing or (rule.compares and _lacks_too_much(rule, measured)):
        return VerdictState.ERROR
    if rule.undecided(measured):
        return VerdictState.INCONCLUSIVE
    if rule.compares and measured.before.truncated:
        passed = replace(measured, before=measured.before.with_passed(TRUNCATED))
        if rule.fails(passed) or rule.undecided(passed):
            return VerdictState.INCONCLUSIVE
    return VerdictState.PASSED


def _lacks_too_much(rule: Rule, measured: Measured) -> bool:
    """Return whether outcomes of the comparator are missing that the result could depend on."""
    before = measured.before
    missing, total, tolerance = before.score.missing, before.score.total, before.tolerance
    if not missing or not tolerance:
        return missing > 0
    if missing > 1 and missing > tolerance * total:
        return True
    return rule.fails(replace(measured, before=before.with_passed(ERROR)))
