"""The stop rule: decide after each checkpoint whether training continues. No I/O."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

from tunegate_api.meta import summarize
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.measured import Comparator, Letters, Measured, SetScore
from tunegate_api.verdict.outcomes import (
    FAIL,
    NO_CASES,
    PASS,
    TRUNCATED,
    CaseSet,
    new_failures,
    passed_count,
    points_text,
)
from tunegate_api.verdict.rules.drop import Drop
from tunegate_api.verdict.tiers import counted_cases


class StopAction(StrEnum):
    CONTINUE = "Continue"
    CHECK_EARLY = "CheckEarly"
    STOP = "Stop"


@dataclass(frozen=True)
class StepOutcomes:
    """The outcomes of a golden set at one optimizer step of a stage. Step 0 is the starting model of the
    stage."""

    step: int
    outcomes: str


@dataclass(frozen=True)
class StepValue:
    """The score on a golden set or of a task metric at one optimizer step of a stage."""

    step: int
    score: SetScore
    text: str
    """The shown value in messages."""
    at_most: bool = False
    """Whether messages show the highest possible value instead of the measured one."""

    @property
    def shown(self) -> Fraction:
        """The value with which messages calculate."""
        return self.score.highest if self.at_most else self.score.value


@dataclass(frozen=True)
class Assessment:
    """The result of the stop rule after a checkpoint."""

    action: StopAction
    message: str
    must_pass: bool = False
    """Whether training stops because a case that must always pass failed."""
    best_step: int = 0
    """The step of the model with which the checkpoint was compared. Safety sets are compared with the first
    model of ``history``, and everything else with the best one."""
    best_passed: int = 0
    """Number of golden cases that passed at ``best_step``. 0 for a task metric and a safety set."""
    regressed: tuple[str, ...] = ()
    """Ids of the cases that fail now and passed at ``best_step``. If ``must_pass`` is set, ids of the
    critical cases that fail now and passed at any earlier step of ``history``."""

    @property
    def regressing(self) -> bool:
        return self.action is not StopAction.CONTINUE


def assess_checkpoint(cases: CaseSet, bar: Bar, history: Sequence[StepOutcomes]) -> Assessment:
    """Apply the stop rule of a gate to the last checkpoint of ``history``, and return whether training
    continues.

    ``history`` is in the order of steps, and begins with the starting model, or with the checkpoint at which
    a person continued the job. The golden pass rate is assessed as :func:`assess_values` describes. If a
    critical case passed before and fails now, training stops at once. Advisory and sealed cases do not count.

    Raises ValueError if ``history`` is empty.
    """
    counted = counted_cases(cases, bar)
    if not counted.is_whole:
        cases, history = counted.counted, [StepOutcomes(m.step, counted.of(m.outcomes)) for m in history]
    values = golden_values(cases, history)
    found = assess_values("golden", values, bar.between_checkpoints, confirm=bar.confirm)
    best = next(m for m in history if m.step == found.best_step)
    found = replace(found, best_passed=passed_count(best.outcomes))
    current, before = history[-1], history[:-1]
    if not before:
        return found
    lost = _lost_must_pass(cases, bar, before, current)
    if lost:
        text = f"{summarize(lost, 5)} must always pass, passed before, and fails at step {current.step}"
        return replace(found, action=StopAction.STOP, message=text, must_pass=True, regressed=lost)
    return replace(found, regressed=tuple(new_failures(cases, best.outcomes, current.outcomes)))


def golden_values(cases: CaseSet, history: Sequence[StepOutcomes]) -> list[StepValue]:
    """Return the golden pass rate at each step. All ``cases`` count."""
    scores = [(m.step, Letters(m.outcomes, len(cases.ids))) for m in history]
    return [StepValue(step, score, f"{score.passed}/{score.total}") for step, score in scores]


def assess_values(name: str, history: Sequence[StepValue], rule: Drop, *, confirm: bool) -> Assessment:
    """Apply the stop rule to the last value of ``history``, which is in the order of steps.

    A checkpoint regresses if it fails the ``rule`` in comparison with the best value so far, see
    :func:`stopping`. A case that could not be measured does not stop training, because a checkpoint with such
    a case cannot pass.

    Raises ValueError if ``history`` is empty.
    """
    if not history:
        raise ValueError("history is empty: it must begin with the starting model")
    current, before = history[-1], history[:-1]
    if not before:
        return Assessment(StopAction.CONTINUE, f"{name} {current.text}", best_step=current.step)
    action, _ = stopping(lambda end: {name} if _regresses(history[:end], rule) else set(), history, confirm)
    best = best_value(before)
    where = f"best {best.text} at step {best.step}" if best.step else f"starting model {best.text}"
    message = (
        f"{name} {current.text} at step {current.step}, {where}: "
        f"{points_text(100 * (current.shown - best.shown))} points, limit {points_text(-rule.limit)}"
    )
    if action is StopAction.STOP and confirm:
        message += ", confirmed"
    return Assessment(action, message, best_step=best.step)


def stopping(
    regressing: Callable[[int], Set[str]], history: Sequence[object], confirm: bool
) -> tuple[StopAction, Set[str]]:
    """Return whether training continues after the last model of ``history``, and the rules that decide this.

    ``regressing(end)`` returns the rules that the last model of ``history[:end]`` fails. The first model is
    the start, and never regresses. With ``confirm``, training stops if two checkpoints in succession fail the
    same rule, and the next checkpoint is evaluated early after the first of them.
    """
    now = regressing(len(history))
    if not now:
        return StopAction.CONTINUE, now
    if not confirm:
        return StopAction.STOP, now
    confirmed = now & regressing(len(history) - 1) if len(history) > 2 else set()
    return (StopAction.STOP, confirmed) if confirmed else (StopAction.CHECK_EARLY, now)


def best_value(history: Sequence[StepValue]) -> StepValue:
    """Return the highest value, with which the next checkpoint is compared. If several steps have it, the
    earliest. Raises ValueError if ``history`` is empty."""
    return max(history, key=lambda one: (one.score.value, -one.step))


def _regresses(history: Sequence[StepValue], rule: Drop) -> bool:
    best = Comparator("", best_value(history[:-1]).score)
    return rule.fails(Measured(NO_CASES, history[-1].score, best))


def _lost_must_pass(
    cases: CaseSet, bar: Bar, before: Sequence[StepOutcomes], current: StepOutcomes
) -> tuple[str, ...]:
    positions = sorted({i for name in bar.must_pass for i in cases.matching(name)})
    return tuple(
        cases.ids[i]
        for i in positions
        if current.outcomes[i : i + 1] in (FAIL, TRUNCATED)
        and any(m.outcomes[i : i + 1] == PASS for m in before)
    )
