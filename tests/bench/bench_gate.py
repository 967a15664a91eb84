"""Compare the policies of a gate on simulated models: ``make bench-gate``.

For each number of golden cases, pairs of models are drawn: equally good ones, 8 % of whose outcomes change by
chance, and models that are worse by the limit. The simulated share that passes is compared with the exact
probability, and with the gate of NeMo Evaluator, which judges the same pairs. It needs Python 3.12; without
it, its documented rule is used, a t interval of the differences. Other parts simulate the stop rule, measure
how many verdicts are computed in a second, compare the error rate of a calibration with fresh models and with
real ones, measure how much the selection of a checkpoint adds to its rate, and compare the evaluation of a
golden set with lm-eval and inspect_ai. Writes build/bench/gate.json; the parts ``policies``, ``stop-rule``
and ``selection`` draw docs/gate-policies.png, docs/gate-stop-rule.png and docs/golden-selection.png.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from math import comb, sqrt
from pathlib import Path
from random import Random
from statistics import fmean

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import matplotlib as mpl
import matplotlib.pyplot as plt
import nemo_gate
from error_rates import calibration
from golden_speed import evaluation
from measures import Measure, run
from planted import planted
from scipy.stats import t as student
from selection import selection
from stopped_stages import stop_rule

from support.bars import golden_bar
from tunegate_api.verdict.allowed_failures import allowed
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.verdict.outcomes import (
    Baseline,
    CaseSet,
    DropPolicy,
    VerdictState,
)
from tunegate_api.verdict.paired import PairedCounts, is_below

LIMIT = Fraction(5)
SIZES = (20, 50, 100, 200, 500)
ROUNDS = 1000
EQUAL, WORSE = (0.04, 0.04), (0.07, 0.02)
"""Shares of the cases that regress and improve: of an equally good model, and of one that is worse by 5
points."""
THEIRS = "NeMo Evaluator"
POLICIES = ("Points", "NonInferior", THEIRS)
PICTURE = ROOT / "docs" / "gate-policies.png"

Passes = Callable[[int, int, int], bool]
"""Whether a comparison passes, by the numbers of all, regressed and improved cases."""


def policies() -> Iterator[Measure]:
    """Compare simulated and exact shares of passed models, and draw them."""
    drawn: dict[tuple[str, str], list[float]] = {}
    models = {"worse by 5 points": WORSE, "equally good": EQUAL}
    draws = {(title, total): _pairs(total, models[title]) for title in models for total in SIZES}
    statuses = _their_statuses([pair for pairs in draws.values() for pair in pairs])
    for (title, total), pairs in draws.items():
        for policy in POLICIES:
            theirs = Counter(statuses[_counts(*pair)] for pair in pairs)
            found = (
                theirs["PASS"] / len(pairs)
                if policy == THEIRS
                else fmean(_judged(policy, total, *pair) for pair in pairs)
            )
            exact = _exact(total, *models[title], _rule(policy))
            drawn.setdefault((title, policy), []).append(100 * exact)
            target = "<= 5" if title.startswith("worse") and policy == "NonInferior" else ""
            others = "".join(
                f", {name}: {100 * theirs[name] / len(pairs):.1f} %"
                for name in ("BREACH", "INSUFFICIENT_EVIDENCE")
            )
            yield Measure(
                f"{title}, {total} cases, {policy}: passes",
                round(100 * found, 1),
                "%",
                target,
                f"exact: {100 * exact:.1f} %{others if policy == THEIRS else ''}",
            )
    equal = fmean(status == _documented_status(*counts) for counts, status in statuses.items())
    peer = f"of {len(statuses)} different results; {nemo_gate.version()}"
    yield Measure("NeMo Evaluator, as its documented rule", round(100 * equal, 2), "%", ">= 100", peer)
    _draw(drawn)


def speed() -> Iterator[Measure]:
    """Measure the verdicts per second of processor time: of the first comparisons, of the same again, and
    then of other models."""
    total, random = 100, Random(0)
    cases = CaseSet(sha256="golden", ids=[f"case-{i}" for i in range(total)])
    equal, worse = ([_pair(total, *shares, random) for _ in range(2000)] for shares in (EQUAL, WORSE))
    for policy in DropPolicy:
        rules = golden_bar(policy=policy)
        for kind, pairs in (("first", equal), ("again", equal), ("then of worse models", worse)):
            start = time.process_time()
            for before, now in pairs:
                judge_golden(cases, now, rules, {"BaseModel": Baseline("golden", before)})
            rate = len(pairs) / (time.process_time() - start)
            target = "" if pairs is worse else ">= 10000"
            yield Measure(f"{policy}, 100 cases, {kind}", round(rate), "1/s", target)


def _pair(total: int, regressing: float, improving: float, random: Random) -> tuple[str, str]:
    before, now = [], []
    for _ in range(total):
        draw = random.random()
        before.append("f" if regressing <= draw < regressing + improving else "p")
        now.append("f" if draw < regressing else "p")
    return "".join(before), "".join(now)


def _pairs(total: int, shares: tuple[float, float]) -> list[tuple[str, str]]:
    random = Random(total)
    return [_pair(total, *shares, random) for _ in range(ROUNDS)]


def _judged(policy: str, total: int, before: str, now: str) -> bool:
    cases = CaseSet(sha256="golden", ids=[f"case-{i}" for i in range(total)])
    verdict = judge_golden(
        cases, now, golden_bar(policy=DropPolicy(policy)), {"BaseModel": Baseline("golden", before)}
    )
    return verdict.state is VerdictState.PASSED


def _counts(before: str, now: str) -> tuple[int, int, int]:
    """Return the numbers of all, regressed and improved cases."""
    pairs = list(zip(before, now, strict=True))
    return len(pairs), pairs.count(("p", "f")), pairs.count(("f", "p"))


def _their_statuses(pairs: list[tuple[str, str]]) -> dict[tuple[int, int, int], str]:
    """Return the status that NeMo Evaluator gives each pair, by its counts. One pair is judged for pairs with
    equal counts, because the order of cases does not matter."""
    different = {_counts(*pair): pair for pair in pairs}
    found = nemo_gate.verdicts(list(different.values()), float(LIMIT / 100))
    if found is None:
        print("NeMo Evaluator needs Python 3.12, so its documented rule is used")
        return {counts: _documented_status(*counts) for counts in different}
    return dict(zip(different, (status for _, status in found), strict=True))


def _rule(policy: str) -> Passes:
    if policy == THEIRS:
        return lambda n, r, f: _documented_status(n, r, f) == "PASS"
    if policy == "Points":
        return lambda n, r, f: 100 * (r - f) < LIMIT * n and r <= allowed(None, n)
    return lambda n, r, f: r <= allowed(None, n) and is_below(PairedCounts(n, r, f), LIMIT)


def _documented_status(total: int, regressed: int, improved: int) -> str:
    """Return the status of a benchmark by the rule of NeMo Evaluator: the 95 % t interval of the
    differences, 1, 0 or -1 for each case, is above the limit (PASS), below it (BREACH), or has it inside. If
    all differences are equal, the interval has no width."""
    mean = (improved - regressed) / total
    variance = (regressed + improved - total * mean * mean) / (total - 1)
    half = _quantile(total - 1) * sqrt(max(0.0, variance) / total)
    limit = float(LIMIT / 100)
    if round(mean - half, 6) >= -limit:
        return "PASS"
    return "BREACH" if round(mean + half, 6) < -limit else "INSUFFICIENT_EVIDENCE"


@cache
def _quantile(degrees: int) -> float:
    return float(student.ppf(0.975, degrees))


def _exact(total: int, regressing: float, improving: float, passes: Passes) -> float:
    """Return the probability that a comparison passes. Results with less than 1e-7 are left out."""
    found = 0.0
    unchanged = 1 - regressing - improving
    for r in range(total + 1):
        for f in range(total + 1 - r):
            ways = comb(total, r) * comb(total - r, f)
            chance = ways * regressing**r * improving**f * unchanged ** (total - r - f)
            if chance > 1e-7 and passes(total, r, f):
                found += chance
    return found


def _draw(drawn: dict[tuple[str, str], list[float]]) -> None:
    mpl.use("agg")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    for axis, title in zip(axes, ("worse by 5 points", "equally good"), strict=True):
        for policy, style in zip(POLICIES, ("o-", "s-", "^--"), strict=True):
            axis.plot(range(len(SIZES)), drawn[title, policy], style, label=policy)
        axis.set_title(f"Model that is {title}")
        axis.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])
        axis.set_xlabel("golden cases")
        axis.grid(alpha=0.3)
    axes[0].axhline(5, color="grey", linewidth=0.8)
    axes[0].set_ylabel("passes, % of comparisons")
    axes[1].legend()
    figure.savefig(PICTURE, dpi=110, metadata={"Software": ""})


if __name__ == "__main__":
    parts = {
        "policies": policies,
        "stop-rule": stop_rule,
        "speed": speed,
        "calibration": calibration,
        "planted": planted,
        "selection": selection,
        "evaluation": evaluation,
    }
    sys.exit(run("gate", parts, versions=nemo_gate.version()))
