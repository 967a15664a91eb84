"""The error rate of a gate: how often it does not pass a model that is as good as its baseline, and how often
it finds one that is worse. No I/O.

The golden set is a sample of the cases that could be asked. The *reference* is the artifact that was measured
several times. A later version is compared with it as with a baseline, by all rules of the gate, with the
functions that compute verdicts. It is *found* if its state is not Passed.

The state depends on how many cases regressed and improved, and on whether a critical case regressed. Cases
are drawn independently: a case regresses with the probability ``p``, improves with the probability ``q``, and
a critical case regresses with the probability ``c``. So the counts of ``n`` cases have a multinomial
distribution, and the share of models that pass is its exact sum over the counts that pass. Drawing sets from
the measured cases with replacement (the bootstrap; Efron, Bootstrap Methods, 1979) has the same distribution,
without the chance of the draws.

*False alarms.* Two of the ``e`` evaluations of one model differ in a case with the frequency ``k (e - k) / (e
(e - 1) / 2)``, if the case passed ``k`` times. Each direction has half of it, because the evaluations are
interchangeable. The upper bound uses the exact upper 95 % bound of the share of cases whose outcome changed
at least once (Clopper and Pearson, The Use of Confidence or Fiducial Limits, 1934): about ``3 / n`` without a
change. Such a case differs between two evaluations with a probability of at most ``1/2 / (1 - 2 ** (1 -
e))``, which is that of the toss of a coin.

*Detection.* To be worse by a given drop, a later version has the outcome of a planted regression with the
probability ``drop / planted drop`` for each case, and otherwise that of another evaluation of the reference.
So regressions and fixes keep the ratio that was measured. Drops larger than the planted one are not stated.
The share is the mean over the planted regressions. Its 95 % interval has the central part of the shares for
rates drawn from their posterior distributions with the prior of Jeffreys (Brown, Cai and DasGupta, Interval
Estimation for a Binomial Proportion, 2001), for all planted regressions together. So it covers how these
differ, how few cases they changed, and how few cases changed by chance.

*Groups.* If cases of a group change together, ``s = sum(x²) / sum(x)`` cases change at a time, where ``x`` is
the number of changed cases of each group (Kish, Survey Sampling, 1965). Then ``n / s`` draws change ``s``
cases each. If ``s`` is between two numbers, the share is between those of both, and the interval covers both.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import floor, sqrt
from random import Random

from tunegate_api.contract.results import ErrorRateOutcomes
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.binomial import at_most, binomial
from tunegate_api.verdict.comparison import passes
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.verdict.outcomes import (
    FAIL,
    PASS,
    TRUNCATED,
    Baseline,
    CaseSet,
    VerdictState,
)
from tunegate_api.verdict.tiers import counted_cases

MAX_REPEATS, MAX_PLANTED = 20, 8
"""Maximum number of repeats and of planted regressions."""
ALWAYS_STATED = Fraction(5)
"""A drop in percentage points for which the detection rate is stated whatever the limit of the gate is."""
_MULTIPLES = tuple(Fraction(tenths, 10) for tenths in (5, 10, 15, 20, 30))
_DRAWS = 40
"""Number of draws of the rates of each planted regression. Four of them give 160 shares."""
_TRIES = 400
"""Maximum number of draws, with those in which the planted drop is smaller than the stated one."""
_NEGLIGIBLE = 1e-9
REFERENCE = "reference"


@dataclass(frozen=True)
class FalseAlarm:
    """How often a model that is as good as its baseline does not pass."""

    share: float
    high: float
    """Upper 95 % bound. It is more than 0, even if no outcome changed."""


@dataclass(frozen=True)
class Detection:
    """How often a model that is worse by ``points`` percentage points does not pass."""

    points: Fraction
    share: float
    low: float
    """Lower bound of the 95 % interval."""
    high: float


@dataclass(frozen=True)
class ErrorRates:
    """The error rate of a gate, or why it cannot be computed."""

    problem: str = ""
    """Empty if the error rate was measured."""
    false_alarm: FalseAlarm = FalseAlarm(1.0, 1.0)
    detection: tuple[Detection, ...] = ()
    """From small to large drops. Drops larger than :attr:`largest` are left out."""
    flaky: tuple[str, ...] = ()
    """Ids of the cases whose outcome differs between evaluations of the same model."""
    largest: Fraction = Fraction(0)
    """The largest planted drop in percentage points."""

    def at(self, points: Fraction) -> Detection | None:
        """Return the detection rate for a drop of ``points``; None if it is not stated."""
        return next((one for one in self.detection if one.points == points), None)


def error_rates(
    cases: CaseSet, bar: Bar, outcomes: ErrorRateOutcomes, also: tuple[Fraction, ...] = ()
) -> ErrorRates:
    """Return the error rate of a gate with the golden set ``cases``, with the detection rates for the drops
    ``also`` in percentage points. The same input gives the same numbers in every program, and is computed
    once."""
    measured = outcomes.model_copy(update={"evaluations": 0, "seconds": 0.0})
    return _cached(cases.model_dump_json(), bar, measured.model_dump_json(), also)


@lru_cache(maxsize=128)
def _cached(cases_json: str, bar: Bar, outcomes_json: str, also: tuple[Fraction, ...]) -> ErrorRates:
    cases = CaseSet.model_validate_json(cases_json)
    outcomes = ErrorRateOutcomes.model_validate_json(outcomes_json)
    if problem := _problem(cases, bar, outcomes):
        return ErrorRates(problem)
    counted = counted_cases(cases, bar)
    reference = counted.of(outcomes.reference)
    evaluations = [reference, *map(counted.of, outcomes.repeats)]
    planted = [counted.of(one.outcomes) for one in outcomes.planted]
    planted = [letters for letters in planted if not counted.missing(letters)]
    gate = _Gate(counted.counted, reference, bar)
    flips = _flips(gate, evaluations)
    by_chance = _changed_together(counted.counted, reference, evaluations[1:])
    together = _changed_together(counted.counted, reference, planted)
    changes = [gate.changes(letters) for letters in planted]
    largest = max([100 * one.drop for one in changes], default=Fraction(0))
    sizes = sorted({*(bar.drop.limit * each for each in _MULTIPLES), ALWAYS_STATED, *also})
    return ErrorRates(
        false_alarm=_false_alarm(gate, evaluations, flips, by_chance),
        detection=tuple(
            _detection(gate, points, changes, flips, together) for points in sizes if points <= largest
        ),
        flaky=tuple(gate.cases.ids[i] for i in _flaky(evaluations)),
        largest=max(largest, Fraction(0)),
    )


def _problem(cases: CaseSet, bar: Bar, outcomes: ErrorRateOutcomes) -> str:
    """Return why the error rate cannot be computed; empty if it can."""
    named = {"the reference": outcomes.reference}
    named |= {f"repeat {number}": letters for number, letters in enumerate(outcomes.repeats, start=1)}
    total, planted = len(cases.ids), outcomes.planted
    if not 1 <= len(outcomes.repeats) <= MAX_REPEATS or len(planted) > MAX_PLANTED:
        return f"{len(outcomes.repeats)} repeats and {len(planted)} planted regressions were reported"
    for name, letters in (named | {one.name: one.outcomes for one in planted}).items():
        if len(letters) != total:
            return f"{len(letters)} outcomes of {name} were reported for {total} golden cases"
    counted = counted_cases(cases, bar)
    for name, letters in named.items():
        if missing := counted.missing(counted.of(letters)):
            return f"{missing} golden cases of {name} could not be measured"
    verdict = judge_golden(
        cases, outcomes.reference, bar, {REFERENCE: Baseline(cases.sha256, outcomes.reference)}
    )
    if verdict.state in (VerdictState.FAILED, VerdictState.ERROR):
        return f"the model does not pass in comparison with itself: {verdict.message}"
    return ""


@dataclass(frozen=True)
class _Changes:
    """How many cases changed their outcome, as numbers per case."""

    total: int
    regressed: Fraction
    """Share of the cases that regressed, without critical ones."""
    critical: Fraction
    """Share of the cases that regressed and are critical."""
    improved: Fraction

    @property
    def drop(self) -> Fraction:
        return self.regressed + self.critical - self.improved

    @property
    def rates(self) -> tuple[float, float, float]:
        return float(self.regressed), float(self.critical), float(self.improved)


class _Gate:
    """Which changes of the reference the gate passes."""

    def __init__(self, cases: CaseSet, reference: str, bar: Bar) -> None:
        self.cases, self.reference, self._bar = cases, reference, bar
        self.total = len(cases.ids)
        self.critical = {i for name in bar.must_pass for i in cases.matching(name)}
        by_letter: dict[str, list[int]] = {PASS: [], FAIL: [], TRUNCATED: []}
        for i, letter in enumerate(reference):
            if letter != PASS or i not in self.critical:
                by_letter[letter].append(i)
        self._passing, self._others = by_letter[PASS], by_letter[FAIL] + by_letter[TRUNCATED]
        self._most: list[int] = []

    def most(self, improved: int) -> int:
        """Return how many cases that are not critical may regress in a model that passes, if ``improved``
        cases improved. Returns -1 if no such model passes.

        Improved cases never make a verdict worse, and regressed cases never make it better.
        """
        improved = min(improved, len(self._others))
        while len(self._most) <= improved:
            here, last = len(self._most), len(self._passing)
            passing, step = (self._most[-1] if self._most else -1), 1
            while passing + step <= last and self._passes(passing + step, here):
                passing, step = passing + step, 2 * step
            found = min(passing + step, last + 1)
            while found - passing > 1:
                middle = (passing + found) // 2
                passing, found = (middle, found) if self._passes(middle, here) else (passing, middle)
            self._most.append(passing)
        return self._most[improved]

    def _passes(self, regressed: int, improved: int) -> bool:
        now = list(self.reference)
        for i in self._passing[:regressed]:
            now[i] = FAIL
        for i in self._others[:improved]:
            now[i] = PASS
        outcomes, baseline = "".join(now), Baseline(self.cases.sha256, self.reference)
        if not passes(baseline, self.cases, outcomes, self._bar):
            return False
        return judge_golden(self.cases, outcomes, self._bar, {}).state is VerdictState.PASSED

    def changes(self, letters: str) -> _Changes:
        """Return how the model with these outcomes differs from the reference."""
        changed = [i for i in range(self.total) if (letters[i] == PASS) != (self.reference[i] == PASS)]
        regressed = [i for i in changed if self.reference[i] == PASS]
        critical = sum(i in self.critical for i in regressed)
        shares = (len(regressed) - critical, critical, len(changed) - len(regressed))
        return _Changes(self.total, *(Fraction(number, self.total) for number in shares))

    def found_share(self, rates: tuple[float, float, float], together: float) -> float:
        """Return the probability with which a model with these rates of changes is found. The rates are
        those of regressed cases without critical ones, of critical cases, and of improved cases. If
        ``together`` is 2.3, three cases change at a time in 30 % of the models, and two in the others."""
        whole, part = int(together), together % 1
        found = self._found_share(rates, whole)
        return found + part * (self._found_share(rates, whole + 1) - found) if part else found

    def _found_share(self, rates: tuple[float, float, float], together: int) -> float:
        regressing, critical, improving = rates
        draws = max(1, round(self.total / together))
        rest = max(1 - critical, 1e-12)
        regressing, improving = regressing / rest, improving / rest
        share = min(1.0, regressing / max(1 - improving, 1e-12))
        passing = 0.0
        for improved, chance in _likely_numbers(draws, improving):
            most = self.most(improved * together)
            passing += chance * at_most(most // together, draws - improved, share)
        return min(1.0, max(0.0, 1 - passing * (1 - critical) ** draws))


def _flaky(evaluations: Sequence[str]) -> list[int]:
    """Return the positions of the cases whose outcome differs between evaluations of the same model."""
    passed = [[letters[i] == PASS for letters in evaluations] for i in range(len(evaluations[0]))]
    return [i for i, each in enumerate(passed) if len(set(each)) > 1]


def _flips(gate: _Gate, evaluations: Sequence[str]) -> _Changes:
    """Return the mean changes between two evaluations of the same model, equal in both directions."""
    number, found = len(evaluations), {True: Fraction(0), False: Fraction(0)}
    for i in _flaky(evaluations):
        passed = sum(letters[i] == PASS for letters in evaluations)
        found[i in gate.critical] += Fraction(passed * (number - passed), number * (number - 1) * gate.total)
    return _Changes(gate.total, found[False], found[True], found[False] + found[True])


def _false_alarm(gate: _Gate, evaluations: Sequence[str], flips: _Changes, together: float) -> FalseAlarm:
    share = gate.found_share(flips.rates, together)
    draws = max(1, round(gate.total / together))
    changed = min(draws, -(-len(_flaky(evaluations)) * draws // gate.total))
    of_a_coin = 0.5 / (1 - 2.0 ** (1 - len(evaluations)))
    each = max(_upper_bound(changed, draws) * of_a_coin / 2, float(flips.improved))
    critical = max(float(flips.critical), each * len(gate.critical) / gate.total)
    high = gate.found_share((max(0.0, each - critical), critical, each), together)
    return FalseAlarm(share, max(share, high))


def _detection(
    gate: _Gate, points: Fraction, planted: Sequence[_Changes], flips: _Changes, together: float
) -> Detection:
    drop, shares, drawn = float(points) / 100, [], []
    for number, changes in enumerate(planted):
        if 100 * changes.drop < points:
            continue
        rates = changes.rates
        shares.append(gate.found_share(_mixed(rates, flips.rates, drop), together))
        random, accepted = Random(f"{number} {points}"), 0
        for _ in range(_TRIES):
            possible = _drawn(rates, gate, together, random)
            if possible[0] + possible[1] - possible[2] >= drop:
                size = int(together + random.random())
                by_chance = _drawn_flips(flips, gate, together, random)
                drawn.append(gate.found_share(_mixed(possible, by_chance, drop), size))
                accepted += 1
            if accepted == _DRAWS:
                break
    share = sum(shares) / len(shares)
    ordered = sorted([*drawn, *shares])
    outside = len(ordered) // 40
    low, high = ordered[outside], ordered[-1 - outside]
    return Detection(points, share, min(low, share), max(high, share))


def _mixed(
    planted: tuple[float, float, float], flips: tuple[float, float, float], drop: float
) -> tuple[float, float, float]:
    """Return the rates of a model that has the outcomes of a planted regression for as many cases as give the
    drop, and otherwise those of another evaluation of the reference."""
    kept = min(1.0, drop / (planted[0] + planted[1] - planted[2]))
    regressed, critical, improved = (
        kept * there + (1 - kept) * here for there, here in zip(planted, flips, strict=True)
    )
    return regressed, critical, improved


def _drawn(
    rates: tuple[float, float, float], gate: _Gate, together: float, random: Random
) -> tuple[float, float, float]:
    """Draw rates from their posterior distribution: a Dirichlet distribution, by gamma variates."""
    draws = gate.total / together
    weights = [random.gammavariate(rate * draws + 0.5, 1) for rate in rates]
    if not gate.critical:
        weights[1] = 0.0
    unchanged = random.gammavariate(max(0.0, 1 - sum(rates)) * draws + 0.5, 1)
    whole = sum(weights) + unchanged
    return weights[0] / whole, weights[1] / whole, weights[2] / whole


def _drawn_flips(flips: _Changes, gate: _Gate, together: float, random: Random) -> tuple[float, float, float]:
    """Draw how often outcomes change by chance from its posterior distribution, a beta distribution."""
    draws = gate.total / together
    changed = 2 * float(flips.improved) * draws  # in both directions
    each = random.betavariate(changed + 0.5, max(0.0, draws - changed) + 0.5) / 2
    critical = float(flips.critical / flips.improved) if changed else len(gate.critical) / gate.total
    return each * (1 - critical), each * critical, each


def _changed_together(cases: CaseSet, reference: str, evaluations: Sequence[str]) -> float:
    """Return how many cases change at a time in these evaluations, at least 1."""
    if len(cases.groups) != len(cases.ids):
        return 1.0
    numbers: list[int] = []
    for letters in evaluations:
        outcomes = zip(cases.groups, reference, letters, strict=True)
        changed = (group for group, was, letter in outcomes if (was == PASS) != (letter == PASS))
        numbers += Counter(changed).values()
    return sum(number * number for number in numbers) / sum(numbers) if numbers else 1.0


def _upper_bound(changed: int, total: int) -> float:
    """Return the exact upper 95 % bound of a share of which ``changed`` of ``total`` were seen."""
    low, high = changed / total, 1.0
    while high - low > 1e-6 and changed < total:
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(changed, total, middle) > 0.05 else (low, middle)
    return high


def _likely_numbers(total: int, share: float) -> Iterator[tuple[int, float]]:
    """Yield the numbers of ``total`` cases whose probability is not negligible, with their probabilities."""
    share = min(max(share, 0.0), 1.0)
    spread = 7 * sqrt(total * share * (1 - share)) + 10
    first, last = max(0, floor(total * share - spread)), min(total, floor(total * share + spread))
    yield from (
        (number, chance)
        for number in range(first, last + 1)
        if (chance := binomial(number, total, share)) > _NEGLIGIBLE
    )
