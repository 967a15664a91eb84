"""Let a judge model score the review sample, if it agrees with people about the calibration rows."""

import asyncio
import logging
from pathlib import Path

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import JudgedBad, JudgePlan, Plan
from tunegate_api.contract.workspace import JUDGE_ANSWERS, REVIEW_SAMPLE
from tunegate_api.judging.judge_model import assess_calibration
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.v1alpha1.data import Judge
from tunegate_trainer.graders.journal import Journal
from tunegate_trainer.graders.model.answer import JudgeAnswer
from tunegate_trainer.graders.model.calibration import CalibrationRows, read_calibration
from tunegate_trainer.graders.model.instructions import instructions
from tunegate_trainer.graders.model.scoring import Scoring
from tunegate_trainer.graders.server.chat_server import ChatServer, open_server
from tunegate_trainer.process.context import Context

logger = logging.getLogger(__name__)

FIELD = "data.quality.judge"


def judge_server(context: Context) -> ChatServer | None:
    """Return the server of the judge; None if the job has no judge.

    Raises :class:`TrainerError` if its address or its API key cannot be used.
    """
    quality = context.request.spec.data.quality
    if quality is None or quality.judge is None:
        return None
    return open_server(context, quality.judge.endpoint, f"{FIELD}.endpoint")


def with_judge(context: Context, plan: Plan, server: ChatServer | None) -> Plan:
    """Return the plan with the scores of the judge for the review sample; unchanged if the job has no judge.

    The answers are kept in data/review/judge.jsonl, so that another attempt asks only about the other rows.
    Raises :class:`TrainerError` if the calibration rows or the server cannot be used.
    """
    quality, sample = context.request.spec.data.quality, plan.data.review
    if server is None or quality is None or quality.judge is None or sample is None:
        return plan
    judge = quality.judge
    calibration = read_calibration(context, judge.calibration, f"{FIELD}.calibration")
    folder = context.workspace / context.paths.data
    with context.interruption.deferred(), Journal(folder / JUDGE_ANSWERS) as journal:
        scoring = Scoring(server, journal, instructions(judge.rubric), context.interruption)
        scores = asyncio.run(_score(judge, scoring, calibration, folder / REVIEW_SAMPLE))
    context.interruption.check()
    reviewed = sample.model_copy(update={"judge": scores})
    return plan.model_copy(update={"data": plan.data.model_copy(update={"review": reviewed})})


async def _score(judge: Judge, scoring: Scoring, calibration: CalibrationRows, sample: Path) -> JudgePlan:
    """Ask about the calibration rows and, if the judge is calibrated, about the rows in ``sample``."""
    async with scoring.server:
        counts = calibration.counts(await scoring.score(calibration.rows, "calibration rows"))
        found = assess_calibration(counts, judge.calibration)
        logger.info("judge: %s: %s", "calibrated" if found.has_passed else "inconclusive", found.message)
        answers: dict[str, JudgeAnswer] = {}
        if found.has_passed:
            with sample.open(encoding="utf-8") as lines:
                rows = [ReviewRow.model_validate_json(line) for line in lines]
            by_digest = await scoring.score(rows, "rows of the sample")
            answers = {row.id: by_digest[row.digest] for row in rows if row.digest in by_digest}
    return JudgePlan(
        model=judge.endpoint.model,
        instructions_sha256=sha256_text(scoring.system),
        calibration=counts,
        good=[id for id, answer in answers.items() if answer.good],
        bad=[JudgedBad(id=id, reason=answer.reason) for id, answer in answers.items() if not answer.good],
        faults={str(fault): count for fault, count in scoring.journal.faults.items()},
    )
