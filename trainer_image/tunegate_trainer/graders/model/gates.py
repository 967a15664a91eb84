"""The judge models of gates: their calibration before training, with rows that people scored."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunegate_api.cases.expectations import JudgeExpectation, leaves
from tunegate_api.cases.golden import GoldenCase, counting, with_expectation
from tunegate_api.contract.plan import JudgePlan
from tunegate_api.contract.request import GateRequest
from tunegate_api.judging.judge_model import assess_calibration
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.v1alpha2.graders import GateGrader, RequiredAgreement
from tunegate_trainer.graders.grading_server import JUDGE, GradingServer
from tunegate_trainer.graders.model.calibration import read_calibration
from tunegate_trainer.graders.model.instructions import instructions_for_outputs, instructions_sha256
from tunegate_trainer.graders.model.row_request import RowRequest
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateJudge:
    """The judge model of a gate. Its scores count if the plan has a calibration that passed."""

    context: Context
    gate: GateRequest
    judge: GateGrader
    agreement: RequiredAgreement
    """How often the judge must agree with people."""

    @property
    def server(self) -> GradingServer:
        """The judge as it is asked. Gates with the same judge and instructions share its answers."""
        return GradingServer(
            self.context,
            JUDGE,
            self.judge.endpoint,
            f"{self._field}.endpoint",
            instructions_for_outputs(self.judge.rubric),
            is_direct=self.gate.required,
        )

    def request(self, row: ReviewRow, criteria: str | None = None) -> RowRequest:
        """Return the request about an output. ``criteria`` are those of a golden case, which apply too."""
        return RowRequest(row, instructions_for_outputs(self.judge.rubric, criteria))

    def calibrate(self) -> tuple[JudgePlan, bool]:
        """Ask about the rows that people scored, each with its own rubric if it has one. Rows with a known
        answer are not sent again. Return the result, and whether a row has its own rubric.

        Raises :class:`TrainerError` if the rows or the server cannot be used.
        """
        rows = read_calibration(self.context, self.gate, self.agreement)
        server = self.server
        requests = [self.request(row, rows.rubrics.get(row.digest)) for row in rows.rows]
        counts = rows.counts(server.ask(requests, "calibration rows"))
        plan = JudgePlan(
            model=server.model,
            instructions_sha256=instructions_sha256(self.judge),
            calibration=counts,
            faults=server.faults,
        )
        return plan, bool(rows.rubrics)

    def problem(self) -> str | None:
        """Why scores of the judge do not count; None if they do. Its calibration decides."""
        calibrated = self.context.gate_judges.get(self.gate.name)
        again = "create the job again"
        if calibrated is None:
            return f"it was not calibrated before training: {again}"
        is_same = calibrated.instructions_sha256 == instructions_sha256(self.judge)
        if calibrated.model != self.judge.endpoint.model or not is_same:
            return f"it was calibrated with other instructions: {again}"
        found = assess_calibration(calibrated.calibration, self.agreement)
        return None if found.has_passed else f"its calibration is inconclusive: {found.message}"

    @property
    def _field(self) -> str:
        return f"EvalGate {self.gate.name}: spec.graders[{self.judge.name}]"


def find_judge(context: Context, gate: GateRequest) -> GateJudge | None:
    """Return the judge of a gate; None if it has none."""
    judge = gate.spec.judge
    return GateJudge(context, gate, judge, judge.agreement) if judge and judge.agreement else None


def calibrate_judges(
    context: Context, golden: Mapping[str, Sequence[GoldenCase]]
) -> tuple[dict[str, JudgePlan], list[str]]:
    """Return the calibrations of the judges of gates, and warnings. ``golden`` has the golden cases. Both are
    by the name of the gate. An inconclusive judge is a warning if only advisory cases or dry runs need it.

    Raises :class:`TrainerError` if the calibration rows or a server cannot be used, and :class:`UserError` if
    a judge that cases need which count is inconclusive.
    """
    judges: dict[str, JudgePlan] = {}
    warnings: list[str] = []
    problems: list[str] = []
    for gate in context.request.gates:
        cases = with_expectation("judge", golden.get(gate.name, ()))
        judge = find_judge(context, gate) if cases else None
        if judge is None:
            continue
        calibrated: list[tuple[JudgePlan, bool]] = []
        with context.tolerating(gate):
            calibrated.append(judge.calibrate())
        if not calibrated:
            continue
        ((found, has_rubrics),) = calibrated
        judges[gate.name] = found
        assessed = assess_calibration(found.calibration, judge.agreement)
        result = "calibrated" if assessed.has_passed else "inconclusive"
        logger.info("judge of EvalGate %s: %s: %s", gate.name, result, assessed.message)
        if not assessed.has_passed:
            is_needed = counting(gate.bar, cases) and not gate.spec.dry_run
            affected = problems if is_needed else warnings
            affected.append(
                f"EvalGate {gate.name}: the calibration of the judge {found.model} is inconclusive, so cases "
                f"that it must score are errors: {assessed.message}"
            )
        elif not has_rubrics and any(_has_rubric(case) for case in cases):
            warnings.append(
                f"EvalGate {gate.name}: golden cases have a rubric, but no calibration row has one, so it is "
                f"unknown how well the judge {found.model} applies rubrics of cases"
            )
    if problems:
        raise UserError(
            "; ".join(problems),
            "correct the rubric, the scores of the calibration rows or the model of the grader, or add its "
            "cases to advisory of the golden set; then create the job again",
        )
    return judges, warnings


def _has_rubric(case: GoldenCase) -> bool:
    return any(isinstance(leaf, JudgeExpectation) and leaf.rubric for leaf in leaves(case.expect))
