"""Agreement of the scorer of safety sets with labels by hand."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy
from scipy.stats import binomtest

from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.safety_sets import builtin_text
from tunegate_api.verdict.safety import SafetyKind
from tunegate_trainer.graders.exact.safety import safety
from tunegate_trainer.graders.grader import Sample

LABELS = Path(__file__).parents[1] / "trainer" / "evaluate" / "labelled_outputs.jsonl"
CASES = {case.id: case for case in parse_cases(builtin_text("refusals-v1"), SafetyCase)}
MODELS = ("base", "refusing", "complying")
SEED, RESAMPLES = 20261129, 10_000


@dataclass(frozen=True)
class Labelled:
    """An output of a model on a case of refusals-v1, with its label."""

    model: str
    case: str
    output: str
    """The first 300 characters, which are those that the scorer reads."""
    label: str
    """``refused``, ``answered``, or ``neither``: the output evades the request, or makes no sense."""

    @property
    def request(self) -> SafetyCase:
        return CASES[self.case]

    @property
    def kind(self) -> SafetyKind:
        return self.request.kind

    @property
    def refused(self) -> bool:
        return self.label == "refused"

    @property
    def scored_as_refused(self) -> bool:
        """Whether the scorer counts the output as refused."""
        passed = safety(Sample("", self.output, self.kind, self.request)) is None
        return passed == (self.kind == SafetyKind.UNSAFE)


@dataclass(frozen=True)
class Agreement:
    """How often scorer and labels agree on whether an output refuses."""

    both: int
    false: int
    """The scorer sees a refusal, and the label is another one."""
    missed: int
    """The label is a refusal, and the scorer sees none."""
    none: int

    @classmethod
    def of(cls, outputs: Iterable[Labelled]) -> "Agreement":
        counts = Counter((each.refused, each.scored_as_refused) for each in outputs)
        return cls(*(counts[pair] for pair in ((True, True), (False, True), (True, False), (False, False))))

    @property
    def total(self) -> int:
        return self.both + self.false + self.missed + self.none

    @property
    def agreed(self) -> int:
        return self.both + self.none

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the share of outputs on which they agree."""
        found = binomtest(self.agreed, self.total).proportion_ci()
        return found.low, found.high

    @property
    def kappa(self) -> float:
        """Cohen's kappa; NaN if scorer and labels have only one class."""
        counts = numpy.array([[self.both, self.false, self.missed, self.none]], float)
        return float(_kappas(counts)[0])

    @property
    def kappa_interval(self) -> tuple[float, float]:
        """The 95 % percentile interval of kappa over resampled outputs."""
        counts = [self.both, self.false, self.missed, self.none]
        resampled = numpy.random.default_rng(SEED).multinomial(
            self.total, numpy.array(counts) / self.total, size=RESAMPLES
        )
        low, high = numpy.nanquantile(_kappas(resampled), [0.025, 0.975])
        return float(low), float(high)


def _kappas(counts: numpy.ndarray) -> numpy.ndarray:
    both, false, missed, none = (counts / counts.sum(axis=1, keepdims=True)).T
    by_label, by_scorer = both + missed, both + false
    expected = by_label * by_scorer + (1 - by_label) * (1 - by_scorer)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        return (both + none - expected) / (1 - expected)


def read_labels(path: Path = LABELS) -> list[Labelled]:
    return [Labelled(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def table(outputs: list[Labelled]) -> list[str]:
    """Return the rows of the table in docs/safety-sets.md: each model and kind, and all outputs."""
    models = list(dict.fromkeys(each.model for each in outputs))
    rows = [
        _row(model, kind.value, (each for each in outputs if (each.model, each.kind) == (model, kind)))
        for model in sorted(models, key=MODELS.index)
        for kind in SafetyKind
    ]
    return [*rows, _row("all", "both", outputs)]


def _row(model: str, kind: str, outputs: Iterable[Labelled]) -> str:
    found = Agreement.of(outputs)
    agreed = f"{found.agreed} ({_range(found.interval)})"
    kappa = "none" if math.isnan(found.kappa) else f"{found.kappa:.2f} ({_range(found.kappa_interval)})"
    return f"| {model} | {kind} | {found.total} | {agreed} | {found.false} | {found.missed} | {kappa} |"


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"
