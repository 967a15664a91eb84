"""The judge models of gates: their calibration before training, and their scores for outputs of models."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunegate_api.contract import GateRequest, sha256_text
from tunegate_api.judging.expectations import JudgeExpectation, leaves
from tunegate_api.judging.golden import GoldenCase, counting, with_expectation
from tunegate_api.judging.judge_model import assess_calibration
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.plan import JudgePlan, Plan
from tunegate_api.v1alpha1.data import Judge
from tunegate_trainer.inference.server import ChatServer, open_server
from tunegate_trainer.judge.answer import Answer
from tunegate_trainer.judge.calibration import read_calibration
from tunegate_trainer.judge.instructions import instructions_for_outputs, instructions_sha256
from tunegate_trainer.judge.journal import Journal
from tunegate_trainer.judge.scoring import Scoring
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError, UserError

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 3600
"""Maximum time for the outputs of one model on one golden set, because the pod holds a GPU meanwhile. Outputs
without a score by then are errors."""


@dataclass(frozen=True)
class GateJudge:
    """The judge model of a gate."""

    context: Context
    gate: GateRequest
    judge: Judge

    @property
    def field(self) -> str:
        return f"EvalGate {self.gate.name}: spec.judge"

    @property
    def instructions(self) -> str:
        """The system message without criteria of a case, with which the judge is calibrated."""
        return instructions_for_outputs(self.judge.rubric)

    @property
    def answers(self) -> Path:
        """The file on the volume with the answers. Gates with the same judge and instructions share it, but
        a required gate does not use answers that the job's proxy may have forged."""
        endpoint = self.judge.endpoint
        parts = [endpoint.url, endpoint.model, self.instructions, *(["direct"] if self.gate.required else [])]
        digest = sha256_text("\n".join(parts))
        return self.context.workspace / self.context.paths.judge_answers(digest)

    def open(self) -> ChatServer:
        """Return the server. Sends nothing. Raises :class:`TrainerError` if the address or the API key cannot
        be used."""
        endpoint, is_direct = self.judge.endpoint, self.gate.required
        return open_server(self.context, endpoint, f"{self.field}.endpoint", is_direct=is_direct)

    def calibrate(self) -> tuple[JudgePlan, bool]:
        """Ask about the rows that people scored, each with its own rubric if it has one. Rows with a known
        answer are not sent again. Return the result, and whether a row has its own rubric.

        Raises :class:`TrainerError` if the rows or the server cannot be used.
        """
        rows = read_calibration(self.context, self.judge.calibration, f"{self.field}.calibration")

        asked = [
            (row, instructions_for_outputs(self.judge.rubric, rows.rubrics.get(row.digest)))
            for row in rows.rows
        ]

        async def ask(scoring: Scoring) -> dict[str, Answer]:
            async with scoring.server:
                found = await scoring.answers(asked, "calibration rows")
            by_row = zip(rows.rows, found, strict=True)
            return {row.digest: answer for row, answer in by_row if answer is not None}

        with self.context.interruption.deferred(), Journal(self.answers) as journal:
            scoring = Scoring(self.open(), journal, self.instructions, self.context.interruption)
            counts = rows.counts(asyncio.run(ask(scoring)))
        self.context.interruption.check()
        plan = JudgePlan(
            model=self.judge.endpoint.model,
            instructions_sha256=instructions_sha256(self.judge),
            calibration=counts,
            faults=self.faults,
        )
        return plan, bool(rows.rubrics)

    def score(self, asked: Sequence[tuple[ReviewRow, str | None]]) -> list[Answer | str]:
        """Return the score of each output, or why it has none. ``asked`` has each output with the criteria of
        its golden case. Outputs with a known score are not sent again."""
        requests = [(row, instructions_for_outputs(self.judge.rubric, more)) for row, more in asked]
        late = f"the judge did not answer within {DEADLINE_SECONDS // 60} min"

        async def ask(scoring: Scoring) -> str:
            try:
                async with scoring.server:
                    await scoring.answers(requests, "outputs")
            except TrainerError as error:
                logger.warning("judge: %s", error)
                return str(error)
            return late

        with self.context.interruption.deferred(), Journal(self.answers) as journal:
            try:
                server = self.open()
            except TrainerError as error:
                return [str(error)] * len(requests)
            scoring = Scoring(
                server,
                journal,
                self.instructions,
                self.context.interruption,
                noun="outputs",
                seconds=DEADLINE_SECONDS,
            )
            problem = asyncio.run(ask(scoring))
            keys = [scoring.key(*request) for request in requests]
        self.context.interruption.check()
        return [journal.answers.get(key) or scoring.problems.get(key) or problem for key in keys]

    @property
    def faults(self) -> dict[str, int]:
        """The number of failed requests of this job by kind of fault."""
        if not self.answers.exists():
            return {}
        with Journal(self.answers) as journal:
            return {str(fault): count for fault, count in journal.faults.items()}

    @property
    def problem(self) -> str | None:
        """Why scores of the judge do not count; None if they do. The calibration in the plan decides."""
        calibrated = self.context.plan.gate_judges.get(self.gate.name)
        again = "create the job again"
        if calibrated is None:
            return f"it was not calibrated before training: {again}"
        is_same = calibrated.instructions_sha256 == instructions_sha256(self.judge)
        if calibrated.model != self.judge.endpoint.model or not is_same:
            return f"it was calibrated with other instructions: {again}"
        found = assess_calibration(calibrated.calibration, self.judge.calibration)
        return None if found.has_passed else f"its calibration is inconclusive: {found.message}"


def with_gate_judges(context: Context, plan: Plan, golden: Mapping[str, Sequence[GoldenCase]]) -> Plan:
    """Return the plan with the calibration of the judges of gates. ``golden`` has the golden cases by the
    name of the gate. An inconclusive judge is a warning if only advisory cases need it.

    Raises :class:`TrainerError` if the calibration rows or a server cannot be used, and :class:`UserError` if
    a judge that cases need which count is inconclusive.
    """
    judges: dict[str, JudgePlan] = {}
    warnings: list[str] = []
    problems: list[str] = []
    for gate in context.request.gates:
        cases = with_expectation("judge", golden[gate.name])
        if gate.spec.judge is None or not cases:
            continue
        found, has_rubrics = GateJudge(context, gate, gate.spec.judge).calibrate()
        judges[gate.name] = found
        assessed = assess_calibration(found.calibration, gate.spec.judge.calibration)
        result = "calibrated" if assessed.has_passed else "inconclusive"
        logger.info("judge of EvalGate %s: %s: %s", gate.name, result, assessed.message)
        if not assessed.has_passed:
            affected = problems if counting(gate.spec.thresholds, cases) else warnings
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
            "correct the rubric, the scores of the calibration rows or the model in spec.judge, or add its "
            "cases to thresholds.advisory; then create the job again",
        )
    data = plan.data.model_copy(update={"warnings": [*warnings, *plan.data.warnings]})
    return plan.model_copy(update={"gate_judges": judges, "data": data})


def _has_rubric(case: GoldenCase) -> bool:
    return any(isinstance(leaf, JudgeExpectation) and leaf.rubric for leaf in leaves(case.expect))
