"""Let a judge model score the review sample, if it agrees with people about the calibration rows."""

import logging
import time
from pathlib import Path

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import JudgedBad, JudgePlan, Plan
from tunegate_api.contract.workspace import JUDGE_ANSWERS, REVIEW_SAMPLE
from tunegate_api.judging.judge_model import assess_calibration
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.v1alpha2.graders import RequiredAgreement
from tunegate_trainer.graders.grading_server import JUDGE, ROWS_SECONDS, GradingServer
from tunegate_trainer.graders.model.calibration import CalibrationRows, read_calibration
from tunegate_trainer.graders.model.instructions import instructions
from tunegate_trainer.graders.model.row_request import RowRequest
from tunegate_trainer.process.context import Context

logger = logging.getLogger(__name__)


def judge_server(context: Context) -> GradingServer | None:
    """Return the server of the judge; None if the job has no judge.

    Raises :class:`TrainerError` if its address or its API key cannot be used.
    """
    named = context.request.review_grader
    if named is None:
        return None
    server = GradingServer(
        context,
        JUDGE,
        named.grader.endpoint,
        f"EvalGate {named.gate.name}: spec.graders[{named.grader.name}].endpoint",
        instructions(named.grader.rubric),
        is_direct=named.gate.required,
        file=context.workspace / context.paths.data / JUDGE_ANSWERS,
    )
    server.open()
    return server


def with_judge(context: Context, plan: Plan, server: GradingServer | None) -> Plan:
    """Return the plan with the scores of the judge for the review sample; unchanged if the job has no judge.

    The answers are kept in data/review/judge.jsonl, so that another attempt asks only about the other rows.
    Raises :class:`TrainerError` if the calibration rows or the server cannot be used.
    """
    named, sample = context.request.review_grader, plan.data.review
    if server is None or named is None or sample is None:
        return plan
    calibration = read_calibration(context, named.gate, named.agreement)
    file = context.workspace / context.paths.data / REVIEW_SAMPLE
    scores = _score(named.agreement, server, calibration, file)
    reviewed = sample.model_copy(update={"judge": scores})
    return plan.model_copy(update={"data": plan.data.model_copy(update={"review": reviewed})})


def _score(
    wanted: RequiredAgreement, server: GradingServer, calibration: CalibrationRows, sample: Path
) -> JudgePlan:
    """Ask about the calibration rows and, if the judge is calibrated, about the rows in ``sample``."""
    end = time.monotonic() + ROWS_SECONDS
    requests = [RowRequest(row, server.asks) for row in calibration.rows]
    counts = calibration.counts(server.ask(requests, "calibration rows"))
    found = assess_calibration(counts, wanted)
    logger.info("judge: %s: %s", "calibrated" if found.has_passed else "inconclusive", found.message)
    good: list[str] = []
    bad: list[JudgedBad] = []
    if found.has_passed:
        with sample.open(encoding="utf-8") as lines:
            rows = [ReviewRow.model_validate_json(line) for line in lines]
        asked = [RowRequest(row, server.asks) for row in rows]
        answers = server.ask(asked, "rows of the sample", end - time.monotonic())
        scored = [(row.id, answer) for row, answer in zip(rows, answers, strict=True) if answer]
        good = [id for id, answer in scored if answer.label]
        bad = [JudgedBad(id=id, reason=answer.reason) for id, answer in scored if not answer.label]
    return JudgePlan(
        model=server.endpoint.model,
        instructions_sha256=sha256_text(server.asks),
        calibration=counts,
        good=good,
        bad=bad,
        faults=server.faults,
    )
