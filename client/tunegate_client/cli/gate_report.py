"""The result of `tunegate gate run`: the verdict of each gate, computed from measured outcomes."""

from collections.abc import Iterator, Sequence

from tunegate_api import __version__
from tunegate_api.contract.gate_run import GateRun, MeasuredCase, MeasuredModel
from tunegate_api.contract.results import golden_set
from tunegate_api.judging.judgement import GateJudgement, Judgement, judge_final
from tunegate_api.meta import Listed, Mapped, StatusModel
from tunegate_api.verdict.outcomes import ERROR, PASS, VerdictState
from tunegate_api.verdict.safety import safety_set

_SKIPPED = {"LastPublished": "no published version: name its address with --published"}


class JudgedRule(StatusModel):
    """The result of one rule of a gate."""

    rule: str
    state: VerdictState
    message: str


class JudgedCase(MeasuredCase):
    """The result of one case, and whether it counts."""

    advisory: bool = False

    @property
    def passed(self) -> bool:
        return self.outcome == PASS

    @property
    def has_error(self) -> bool:
        """Whether the case was not measured."""
        return self.outcome == ERROR


class JudgedGate(StatusModel):
    """The verdict of one gate."""

    name: str
    verdict: VerdictState
    message: str
    dry_run: bool = False
    golden_sha256: str
    safety_sha256: str | None = None
    passed: int
    """Number of golden cases that passed, without advisory cases."""
    total: int
    findings: Listed[JudgedRule]
    skipped: Mapped[str] = {}
    """Maps the name of each baseline that was not compared with to the reason."""
    cases: Listed[JudgedCase]
    safety_cases: Listed[JudgedCase] = []

    @property
    def failed_cases(self) -> list[JudgedCase]:
        """The golden cases that count and did not pass."""
        return [case for case in self.cases if not case.passed and not case.advisory]


class ModelResult(StatusModel):
    """The verdicts of all gates about one model."""

    verdict: VerdictState
    """The worst verdict of the gates that are not in a dry run."""
    is_enforced: bool
    """False if all gates are in a dry run."""
    model: MeasuredModel
    base: MeasuredModel | None = None
    device: str
    dtype: str
    quantization: str | None = None
    seconds: float
    """Duration of the evaluations."""
    tunegate: str = __version__
    notes: Listed[str] = []
    """What was not measured, and faults of gates in a dry run."""
    gates: Listed[JudgedGate]


def model_result(run: GateRun, notes: Sequence[str] = ()) -> ModelResult:
    """Return the verdicts of the gates about the measured outcomes. Raises ValueError if the results have no
    evaluation of the model."""
    judgement = judge_final(run.request, run.results)
    if judgement is None:
        raise ValueError("the model was not evaluated")
    return ModelResult(
        verdict=judgement.gate_state,
        is_enforced=bool(judgement.enforced),
        model=run.model,
        base=run.base,
        device=run.device,
        dtype=run.dtype,
        quantization=run.quantization,
        seconds=round(sum(each.seconds for each in run.results.evaluations), 3),
        notes=[*notes, *run.warnings],
        gates=list(_gates(run, judgement)),
    )


def _gates(run: GateRun, judgement: Judgement) -> Iterator[JudgedGate]:
    for gate in judgement.gates:
        request, verdict = run.request.gate(gate.name), gate.verdict
        yield JudgedGate(
            name=gate.name,
            verdict=verdict.state,
            message=verdict.message,
            dry_run=gate.dry_run,
            golden_sha256=request.golden_sha256,
            safety_sha256=request.safety_sha256,
            passed=verdict.passed,
            total=verdict.total,
            findings=[JudgedRule(rule=f.rule, state=f.state, message=f.message) for f in verdict.findings],
            skipped={name: _SKIPPED[name] for name in gate.skipped},
            cases=_cases(run.cases.get(golden_set(gate.name), ()), gate),
            safety_cases=_cases(run.cases.get(safety_set(gate.name), ())),
        )


def _cases(cases: Sequence[MeasuredCase], gate: GateJudgement | None = None) -> list[JudgedCase]:
    counted = set(gate.counted.counted.ids) if gate else None
    return [
        JudgedCase.model_validate(
            {**case.model_dump(), "advisory": counted is not None and case.id not in counted}
        )
        for case in cases
    ]
