"""Simulate stages of training with and without a drop, and compute exactly how often the stop rule errs.

Writes docs/gate-stop-rule.png.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from math import comb
from pathlib import Path
from random import Random
from statistics import fmean

import matplotlib as mpl
import matplotlib.pyplot as plt
from measures import Measure

from support.bars import golden_bar
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_api.verdict.stop_rule import StepOutcomes, StopAction, assess_checkpoint

SIZES, DRAWN_SIZES = (50, 100, 200), (20, 50, 100, 200, 500)
RUNS = 2000
EVALUATIONS, BEFORE_DROP = 10, 5
COINS = 8
"""Percentage of the cases that pass or fail by the toss of a coin in each evaluation."""
LIMIT = 5
"""Drop between checkpoints in percentage points that is a regression."""
DROP = 10
PICTURE = Path(__file__).parents[2] / "docs" / "gate-stop-rule.png"


def stop_rule() -> Iterator[Measure]:
    """Simulate stages of ten evaluations: how often chance stops one, and how often a drop of 10 points is
    missed. Compare both with the exact probabilities, and draw these."""
    for total in SIZES:
        cases = CaseSet(sha256="golden", ids=[f"case-{i}" for i in range(total)])
        for confirm in (False, True):
            rules, random = golden_bar(confirm=confirm), Random(total)
            stopped = fmean(_is_stopped(cases, rules, _history(total, 0, random)) for _ in range(RUNS))
            missed = 1 - fmean(_is_stopped(cases, rules, _history(total, DROP, random)) for _ in range(RUNS))
            name = f"{total} cases, {_policy(confirm)}"
            for kind, found, exact in (
                ("stopped without a drop", stopped, _exact_stop(total, 0, confirm=confirm)),
                (f"drop of {DROP} points missed", missed, 1 - _exact_stop(total, DROP, confirm=confirm)),
            ):
                yield Measure(
                    f"{name}: {kind}", round(100 * found, 1), "%", "", f"exact: {100 * exact:.1f} %"
                )
    _draw()


def _policy(confirm: bool) -> str:
    return "Confirm" if confirm else "Immediate"


def _history(total: int, drop: float, random: Random) -> list[StepOutcomes]:
    """Return ten evaluations of a stage, of which the last five are worse by ``drop`` points. 8 % of the
    cases pass or fail by the toss of a coin in each."""
    coins = set(random.sample(range(total), _coins(total)))
    lost = {i for i in range(total) if i not in coins and random.random() < drop / (100 - COINS)}
    steps = []
    for step in range(EVALUATIONS):
        letters = (
            "f" if (i in coins and random.random() < 0.5) or (step >= BEFORE_DROP and i in lost) else "p"
            for i in range(total)
        )
        steps.append(StepOutcomes(10 * step, "".join(letters)))
    return steps


def _is_stopped(cases: CaseSet, rules: Bar, history: list[StepOutcomes]) -> bool:
    return any(
        assess_checkpoint(cases, rules, history[:end]).action is StopAction.STOP
        for end in range(2, len(history) + 1)
    )


def _coins(total: int) -> int:
    return round(COINS * total / 100)


@cache
def _exact_stop(total: int, drop: float, *, confirm: bool) -> float:
    """Return the probability that a stage of :func:`_history` is stopped, also before its drop."""
    others, share = total - _coins(total), drop / (100 - COINS)
    chances = (
        comb(others, lost) * share**lost * (1 - share) ** (others - lost) for lost in range(others + 1)
    )
    return sum(
        chance * _stop_with(total, lost, confirm=confirm) for lost, chance in enumerate(chances) if chance
    )


def _stop_with(total: int, lost: int, *, confirm: bool) -> float:
    """Return the probability of a stop if the last five evaluations fail ``lost`` more cases."""
    coins, limit = _coins(total), -(-LIMIT * total // 100)
    chances = [comb(coins, failed) / 2**coins for failed in range(coins + 1)]
    # The probability of each fewest number of failed cases so far, and whether the last evaluation regressed.
    states = {(failed, False): chance for failed, chance in enumerate(chances)}
    stopped = 0.0
    for step in range(1, EVALUATIONS):
        more = lost if step >= BEFORE_DROP else 0
        following: dict[tuple[int, bool], float] = defaultdict(float)
        for (fewest, regressed), share in states.items():
            for failed, chance in enumerate(chances, start=more):
                regresses = failed - fewest >= limit
                if regresses and (regressed or not confirm):
                    stopped += share * chance
                else:
                    following[min(fewest, failed), regresses] += share * chance
        states = following
    return stopped


def _draw() -> None:
    mpl.use("agg")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    places = range(len(DRAWN_SIZES))
    for confirm, style in ((False, "o-"), (True, "s-")):
        stopped = [100 * _exact_stop(total, 0, confirm=confirm) for total in DRAWN_SIZES]
        missed = [100 - 100 * _exact_stop(total, DROP, confirm=confirm) for total in DRAWN_SIZES]
        for axis, drawn in zip(axes, (stopped, missed), strict=True):
            axis.plot(places, drawn, style, label=_policy(confirm))
    for axis, title in zip(axes, ("Nothing changes", f"Lasting drop of {DROP} points"), strict=True):
        axis.set_title(title)
        axis.set_xticks(places, [str(size) for size in DRAWN_SIZES])
        axis.set_xlabel("golden cases")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("stopped by chance, % of stages")
    axes[1].set_ylabel("not stopped, % of stages")
    axes[1].legend()
    figure.savefig(PICTURE, dpi=110, metadata={"Software": ""})
