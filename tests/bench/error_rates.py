"""Compare the error rate of a gate, computed from one calibration, with what fresh models show."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from random import Random
from statistics import fmean

from measures import Measure

from support.bars import golden_bar
from tunegate_api.contract.results import ErrorRateOutcomes, PlantedRegression
from tunegate_api.judging.error_rate import ErrorRates, error_rates
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.comparison import passes
from tunegate_api.verdict.outcomes import Baseline, CaseSet, DropPolicy

POPULATIONS, DRAWS, REPEATS = 30, 300, 4
STRENGTHS = (1.0, 0.6)
"""How strong the planted regressions are. A later version is like the stronger one, for some of the cases."""
SHA = "a" * 64


@dataclass(frozen=True)
class Kind:
    """A kind of case: how often it changes."""

    weight: float
    passing: float
    """How often the reference passes it."""
    regressing: float
    """How often the worse model fails it, if the reference passes it."""
    fixing: float
    """How often the worse model passes it, if the reference fails it."""
    flipping: float
    """How often its outcome changes by chance."""


@dataclass(frozen=True)
class Setting:
    """A golden set and a gate."""

    title: str
    total: int
    rules: Bar
    group: int = 1
    """Number of cases of a group, which change together."""


SETTINGS = (
    Setting("100 cases, Points", 100, golden_bar()),
    Setting("100 cases, NonInferior", 100, golden_bar(policy=DropPolicy.NON_INFERIOR)),
    Setting("300 cases, Points", 300, golden_bar()),
    Setting("300 cases, NonInferior", 300, golden_bar(policy=DropPolicy.NON_INFERIOR)),
    Setting("100 cases in groups of 4, Points", 100, golden_bar(), group=4),
    Setting("100 cases, maxNewFailures 3", 100, golden_bar(max_new_failures=3)),
)


def calibration() -> Iterator[Measure]:
    """Simulate calibrations, and compare each with fresh golden sets and models of the same population."""
    for setting in SETTINGS:
        inside, low_alarms, errors = [], [], []
        for number in range(POPULATIONS):
            random = Random(f"{setting.title} {number}")
            population = _population(random)
            rates = _calibrate(setting, population, random)
            alarms = _found_share(setting, population, Fraction(0), random)
            low_alarms.append(alarms <= rates.false_alarm.high + _error(rates.false_alarm.high))
            for detection in rates.detection:
                if detection.points in (5, 10):
                    found = _found_share(setting, population, detection.points, random)
                    error = _error(found)
                    inside.append(detection.low - error <= found <= detection.high + error)
                    errors.append(abs(found - detection.share))
        compared, populations = f"of {len(inside)} detection rates", f"of {POPULATIONS} populations"
        shares = (100 * fmean(inside), 100 * fmean(errors), 100 * fmean(low_alarms))
        within, error, low = (round(share, 1) for share in shares)
        yield Measure(f"{setting.title}: found as predicted", within, "%", ">= 90", compared)
        yield Measure(f"{setting.title}: mean error", error, "points", "", compared)
        yield Measure(f"{setting.title}: alarms below the bound", low, "%", ">= 95", populations)
    yield from _seconds()


def _population(random: Random) -> Sequence[Kind]:
    """Return kinds of cases of which few change often: 15 to 35 % of the cases have most changes."""
    fragile = random.uniform(0.15, 0.35)
    passing, flipping = random.uniform(0.8, 0.95), random.uniform(0, 0.03)
    regressing, fixing = random.uniform(0.5, 0.9), random.uniform(0, 0.4)
    return (
        Kind(fragile, passing, regressing, fixing, 2 * flipping),
        Kind(1 - fragile, passing, random.uniform(0.02, 0.1), fixing / 4, flipping / 2),
    )


def _drop(population: Sequence[Kind]) -> float:
    """Return the true drop of the worse model."""
    return sum(
        kind.weight
        * (kind.passing * kind.regressing - (1 - kind.passing) * kind.fixing)
        * (1 - 2 * kind.flipping)
        for kind in population
    )


class _Set:
    """A golden set that is drawn from a population. A group has cases of one kind, which change together."""

    def __init__(self, setting: Setting, population: Sequence[Kind], random: Random) -> None:
        self.random, self.group = random, setting.group
        groups = setting.total // setting.group
        weights = [kind.weight for kind in population]
        self.kinds = random.choices(population, weights, k=groups)
        self.passing = [random.random() < kind.passing for kind in self.kinds]

    def outcomes(self, strength: float) -> str:
        """Evaluate the reference, for a strength of 0, or a model that has the outcomes of the worse one for
        this share of the cases."""
        random, letters = self.random, []
        for kind, passing in zip(self.kinds, self.passing, strict=True):
            changing = kind.regressing if passing else kind.fixing
            state = passing != (random.random() < strength * changing)
            letters.append(
                "".join("p" if state != (random.random() < kind.flipping) else "f" for _ in range(self.group))
            )
        return "".join(letters)


def _calibrate(setting: Setting, population: Sequence[Kind], random: Random) -> ErrorRates:
    cases = _Set(setting, population, random)
    outcomes = ErrorRateOutcomes(
        golden_sha256=SHA,
        base_digest=SHA,
        scoring="settings",
        reference=cases.outcomes(0),
        repeats=[cases.outcomes(0) for _ in range(REPEATS)],
        planted=[PlantedRegression(name=f"{one}", outcomes=cases.outcomes(one)) for one in STRENGTHS],
    )
    return error_rates(_case_set(setting), setting.rules, outcomes)


def _case_set(setting: Setting) -> CaseSet:
    groups = [i // setting.group for i in range(setting.total)] if setting.group > 1 else []
    return CaseSet(sha256=SHA, ids=[f"case-{i}" for i in range(setting.total)], groups=groups)


def _found_share(setting: Setting, population: Sequence[Kind], points: Fraction, random: Random) -> float:
    """Return the share of fresh golden sets on which a fresh model that is worse by ``points`` is found."""
    strength, case_set = float(points) / 100 / _drop(population), _case_set(setting)
    found = 0
    for _ in range(DRAWS):
        cases = _Set(setting, population, random)
        baseline = Baseline(SHA, cases.outcomes(0))
        found += not passes(baseline, case_set, cases.outcomes(strength), setting.rules)
    return found / DRAWS


def _error(share: float) -> float:
    """Return twice the standard error of a simulated share."""
    return 2 * sqrt(max(share * (1 - share), 1 / DRAWS) / DRAWS)


def _seconds() -> Iterator[Measure]:
    """Measure the time of the computation, with other outcomes each time."""
    for total, target in ((100, 0.5), (1000, 2.0)):
        for policy in DropPolicy:
            setting = Setting("", total, golden_bar(policy=policy))
            random = Random(total)
            start = time.process_time()
            _calibrate(setting, _population(random), random)
            seconds = time.process_time() - start
            yield Measure(f"{total} cases, {policy}: seconds", round(seconds, 2), "s", f"<= {target}")
