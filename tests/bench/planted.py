"""Compare detection rates, predicted by calibrations, with what regressions show that no calibration saw.

The outcomes are those of real models, see planted_outcomes.py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from pathlib import Path
from random import Random
from statistics import fmean, median

import matplotlib as mpl
import matplotlib.pyplot as plt
from measures import Measure

from support.bars import golden_bar
from tunegate_api.contract.results import ErrorRateOutcomes, PlantedRegression
from tunegate_api.judging.error_rate import Detection, error_rates
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.comparison import passes
from tunegate_api.verdict.outcomes import PASS, Baseline, CaseSet, DropPolicy

OUTCOMES = Path(__file__).parent / "planted_outcomes.json"
SIZES = (60, 100)
CALIBRATIONS, COMPARISONS = 50, 1000
SEEN = ("strength 0.75", "strength 0.5", "shuffled answers")
"""The planted regressions of a calibration."""
SHA = "a" * 64
PICTURE = Path(__file__).parents[2] / "docs" / "gate-detection.png"
DRAWN_SIZE = 100
DRAWN_DROPS = tuple(Fraction(points) for points in range(1, 16))


@dataclass(frozen=True)
class Pool:
    """Outcomes of all models on the same cases."""

    reference: str
    repeats: tuple[str, ...]
    seen: Mapping[str, str]
    unseen: Mapping[str, str]

    def drop(self, letters: str) -> Fraction:
        """Return by how many percentage points a model is worse than the reference."""
        return Fraction(100 * (self.reference.count(PASS) - letters.count(PASS)), len(letters))


def planted() -> Iterator[Measure]:
    """Calibrate on many golden sets, and judge each unseen model on other golden sets of the same size."""
    pool = _pool(json.loads(OUTCOMES.read_text(encoding="utf-8"))["outcomes"])
    passed, cases = pool.reference.count(PASS), len(pool.reference)
    yield Measure("cases that the reference passes", passed, "cases", "", f"of {cases}")
    settings = [_Setting(pool, golden_bar(policy=policy), size) for policy in DropPolicy for size in SIZES]
    for setting in settings:
        yield from setting.measures()
    _draw([setting for setting in settings if setting.size == DRAWN_SIZE])


def _pool(outcomes: Mapping[str, str]) -> Pool:
    repeats = tuple(letters for name, letters in outcomes.items() if name.startswith("repeat "))
    named = {n: letters for n, letters in outcomes.items() if n != "reference" and letters not in repeats}
    seen = {name: named.pop(name) for name in SEEN}
    return Pool(outcomes["reference"], repeats, seen, named)


class _Setting:
    """Calibrations, and shares of golden sets on which unseen models are found, for one gate."""

    def __init__(self, pool: Pool, rules: Bar, size: int) -> None:
        self.pool, self.rules, self.size = pool, rules, size
        self.drops = {name: pool.drop(letters) for name, letters in pool.unseen.items()}
        self.found: dict[str, float] = {}
        self._random = Random(f"{rules.drop.policy} {size}")
        self._cases = CaseSet(sha256=SHA, ids=[f"case-{i}" for i in range(size)])
        wanted = tuple(sorted({drop for drop in (*self.drops.values(), *DRAWN_DROPS) if drop > 0}))
        self._rates = [
            error_rates(self._cases, rules, _calibration(pool, size, self._random), also=wanted)
            for _ in range(CALIBRATIONS)
        ]

    def predicted(self, drop: Fraction) -> list[Detection]:
        """Return what each calibration states about a drop, if it states something."""
        return [stated for rates in self._rates if (stated := rates.at(drop))]

    def measures(self) -> Iterator[Measure]:
        inside: list[bool] = []
        of_pool: list[bool] = []
        errors: list[float] = []
        title = f"{self.rules.drop.policy}, {self.size} cases"
        for name, letters in self.pool.unseen.items():
            found, different = self._found_share(letters), self._found_share(letters, replacing=False)
            self.found[name] = found
            stated = self.predicted(self.drops[name])
            agree = [_agrees(each, found) for each in stated]
            inside += agree
            of_pool += [_agrees(each, different) for each in stated]
            errors += [100 * abs(each.share - found) for each in stated]
            peer = f"worse by {float(self.drops[name]):.1f} points; "
            if stated:
                share, low, high = _medians(stated)
                peer += (
                    f"predicted {share:.1f} % ({low:.1f} to {high:.1f}), {sum(agree)} of {len(agree)} agree; "
                )
            peer += f"without repeated cases {100 * different:.1f} %"
            yield Measure(f"{title}, {name}: found", round(100 * found, 1), "%", "", peer)
        within, others = (round(100 * fmean(agree), 1) for agree in (inside, of_pool))
        peer = f"of {len(inside)} detection rates; without repeated cases {others:g} %"
        yield Measure(f"{title}: found as predicted", within, "%", ">= 95", peer)
        yield Measure(f"{title}: mean error", round(fmean(errors), 1), "points")

    def _found_share(self, letters: str, *, replacing: bool = True) -> float:
        """Return the share of drawn golden sets on which the gate does not pass a model.

        Cases are drawn with replacement, as from a source that is much larger than the pool. Sets of a
        hundred different cases, of a few hundred, differ less from each other.
        """
        found, positions = 0, range(len(letters))
        for _ in range(COMPARISONS):
            drawn = (
                self._random.choices(positions, k=self.size)
                if replacing
                else self._random.sample(positions, self.size)
            )
            baseline = Baseline(SHA, _of(self.pool.reference, drawn))
            found += not passes(baseline, self._cases, _of(letters, drawn), self.rules)
        return found / COMPARISONS


def _medians(stated: Sequence[Detection]) -> tuple[float, float, float]:
    """Return the median share and the median bounds, in percent."""
    share, low, high = (
        100 * median(each) for each in zip(*((d.share, d.low, d.high) for d in stated), strict=True)
    )
    return share, low, high


def _agrees(stated: Detection, found: float) -> bool:
    """Return whether a share is in the predicted interval, or within two standard errors of it."""
    error = 2 * sqrt(max(found * (1 - found), 1 / COMPARISONS) / COMPARISONS)
    return stated.low - error <= found <= stated.high + error


def _calibration(pool: Pool, size: int, random: Random) -> ErrorRateOutcomes:
    drawn = random.choices(range(len(pool.reference)), k=size)
    seen = {name: _of(letters, drawn) for name, letters in pool.seen.items()}
    return ErrorRateOutcomes(
        golden_sha256=SHA,
        base_digest=SHA,
        scoring="settings",
        reference=_of(pool.reference, drawn),
        repeats=[_of(letters, drawn) for letters in pool.repeats],
        planted=[PlantedRegression(name=name, outcomes=letters) for name, letters in seen.items()],
    )


def _of(letters: str, drawn: Sequence[int]) -> str:
    return "".join(letters[i] for i in drawn)


def _draw(settings: Sequence[_Setting]) -> None:
    mpl.use("agg")
    figure, axes = plt.subplots(1, len(settings), figsize=(9, 3.4), layout="constrained", sharey=True)
    for axis, setting in zip(axes, settings, strict=True):
        stated = {drop: setting.predicted(drop) for drop in DRAWN_DROPS}
        drops = [drop for drop, each in stated.items() if len(each) == CALIBRATIONS]
        share, low, high = zip(*(_medians(stated[drop]) for drop in drops), strict=True)
        positions = [float(drop) for drop in drops]
        axis.fill_between(positions, low, high, alpha=0.3)
        axis.plot(positions, share, label="predicted")
        shown = [name for name, drop in setting.drops.items() if drop <= max(DRAWN_DROPS)]
        found = [100 * setting.found[name] for name in shown]
        axis.plot([float(setting.drops[name]) for name in shown], found, "o", label="unseen models")
        axis.set_title(f"{setting.rules.drop.policy}, {setting.size} cases")
        axis.set_xlabel("worse by, points")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("does not pass, % of golden sets")
    axes[-1].legend()
    figure.savefig(PICTURE, dpi=110, metadata={"Software": ""})
