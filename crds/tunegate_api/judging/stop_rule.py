"""The stop rule: decide after each checkpoint whether training continues. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tunegate_api.judging.outcomes import (
    FAIL,
    PASS,
    TRUNCATED,
    CaseSet,
    Rules,
    new_failures,
    passed_count,
    points_text,
    rate,
    unmeasured,
)
from tunegate_api.judging.tiers import counted_cases
from tunegate_api.meta import summarize


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
class Assessment:
    """The result of the stop rule after a checkpoint."""

    action: StopAction
    message: str
    must_pass: bool = False
    """Whether training stops because a mustPass case failed."""
    best_step: int = 0
    best_passed: int = 0
    regressed: tuple[str, ...] = ()
    """Ids of the cases that fail now and passed at ``best_step``. If ``must_pass`` is set, ids of the
    mustPass cases that fail now and passed at any earlier step of ``history``."""

    @property
    def regressing(self) -> bool:
        return self.action is not StopAction.CONTINUE


def assess_checkpoint(cases: CaseSet, rules: Rules, history: Sequence[StepOutcomes]) -> Assessment:
    """Apply the stop rule to the last checkpoint of ``history``, and return whether training continues.

    ``history`` is in the order of steps, and begins with the starting model, or with the checkpoint at which
    a person continued the job. A checkpoint regresses if its golden pass rate is below the best so far by
    ``max_drop_between_checkpoints`` points or more. Then training stops at once if ``rules.confirm`` is
    False. Otherwise the next checkpoint is evaluated early, and training stops if it regresses too. If a
    mustPass case passed before and fails now, training stops at once. An outcome that could not be measured
    does not stop training, because a checkpoint with such an outcome cannot pass. Advisory cases do not
    count.

    Raises ValueError if ``history`` is empty.
    """
    if not history:
        raise ValueError("history is empty: it must begin with the starting model")
    counted = counted_cases(cases, rules)
    if not counted.is_whole:
        cases, history = counted.counted, [StepOutcomes(m.step, counted.of(m.outcomes)) for m in history]
    current, before, total = history[-1], history[:-1], len(cases.ids)
    passed = passed_count(current.outcomes)
    if not before:
        return Assessment(StopAction.CONTINUE, f"golden {passed}/{total}", False, current.step, passed)
    best = max(before, key=lambda m: (passed_count(m.outcomes), -m.step))
    best_passed = passed_count(best.outcomes)
    regressed = tuple(new_failures(cases, best.outcomes, current.outcomes))
    drop = 100 * (rate(best_passed, total) - rate(passed + unmeasured(cases, current.outcomes), total))
    where = (
        f"best {best_passed}/{total} at step {best.step}"
        if best.step
        else f"starting model {best_passed}/{total}"
    )
    message = (
        f"golden {passed}/{total} at step {current.step}, {where}: "
        f"{points_text(100 * (rate(passed, total) - rate(best_passed, total)))} points, "
        f"limit {points_text(-rules.max_drop_between_checkpoints)}"
    )

    lost = _lost_must_pass(cases, rules, before, current)
    if lost:
        text = f"mustPass {summarize(lost, 5)} passed before and fails at step {current.step}"
        return Assessment(StopAction.STOP, text, True, best.step, best_passed, lost)
    if drop < rules.max_drop_between_checkpoints:
        return Assessment(StopAction.CONTINUE, message, False, best.step, best_passed, regressed)
    if not rules.confirm:
        return Assessment(StopAction.STOP, message, False, best.step, best_passed, regressed)
    if len(before) > 1 and assess_checkpoint(cases, rules, before).regressing:
        return Assessment(StopAction.STOP, f"{message}, confirmed", False, best.step, best_passed, regressed)
    return Assessment(StopAction.CHECK_EARLY, message, False, best.step, best_passed, regressed)


def _lost_must_pass(
    cases: CaseSet, rules: Rules, before: Sequence[StepOutcomes], current: StepOutcomes
) -> tuple[str, ...]:
    positions = sorted({i for name in rules.must_pass for i in cases.matching(name)})
    return tuple(
        cases.ids[i]
        for i in positions
        if current.outcomes[i : i + 1] in (FAIL, TRUNCATED)
        and any(m.outcomes[i : i + 1] == PASS for m in before)
    )
