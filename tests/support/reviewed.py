"""A job whose data is reviewed: its sample, and how people or a judge model scored it."""

from pathlib import Path
from typing import Any

from support import graders
from support.job_folder import GATE, JobFolder
from tunegate_api.contract.plan import CalibrationCounts, JudgedBad, JudgePlan, SampledRow, SamplePlan
from tunegate_api.judging.review import ReviewerVotes, ReviewRecord
from tunegate_api.judging.review_sample import ReviewRow, sample_digest, with_id
from tunegate_api.messages import Message

MANUAL = {"minScore": "80%"}
JUDGE = {"minScore": "80%", "grader": {"gate": GATE, "name": "judge"}}
TOKEN = "ghp_" + "q7Rk2Z" * 6
ROWS = [
    with_id(
        ReviewRow(
            row=f"line-{n}",
            prompt=[Message(role="user", content=f"order {n}: send <b>{n}</b> mugs, key {TOKEN}")],
            completion=f"total {n}",
        )
    )
    for n in range(20)
]
IDS = [row.id for row in ROWS]
SAMPLE = SamplePlan(sha256=sample_digest(ROWS), rows=[SampledRow(id=row.id, row=row.row) for row in ROWS])


def judged(*, bad_found: int = 20, bad: int = 0, unscored: int = 0, **faults: int) -> SamplePlan:
    """Return the sample with the scores of a judge model. It found ``bad_found`` of 20 bad calibration rows;
    with fewer than 19, it is not calibrated and scores no rows."""
    scored = IDS[: len(IDS) - unscored] if bad_found >= 19 else []
    judge = JudgePlan(
        model="judge-7b",
        instructions_sha256="1" * 64,
        calibration=CalibrationCounts(
            source_sha256="0" * 64, bad=20, bad_found=bad_found, good=80, good_accepted=78, unscored=1
        ),
        good=scored[bad:],
        bad=[JudgedBad(id=id, reason="the total is wrong") for id in scored[:bad]],
        faults=faults,
    )
    return SAMPLE.model_copy(update={"judge": judge})


def by_people(bad: int = 0, reviewer: str = "ana") -> ReviewRecord:
    """Return the record of a review in which a person scored the first ``bad`` rows as bad."""
    votes = ReviewerVotes(reviewer=reviewer, good=IDS[bad:], bad=IDS[:bad])
    return ReviewRecord(sample=SAMPLE.sha256, votes=[votes], notes=dict.fromkeys(IDS[:bad], "wrong total"))


def reviewed_job(root: Path, quality: dict[str, Any], sample: SamplePlan, **changes: Any) -> JobFolder:
    """Return a job whose data role has written ``sample``."""
    data = {
        "goal": "TaskSpecialization",
        "sources": [{"name": "train", "configMap": "invoices"}],
        "quality": quality,
    }
    gate = {"graders": [graders.JUDGE]} if "grader" in quality else {}
    job = JobFolder(root, spec={"data": data, **changes}, gate_spec=gate, review=sample)
    job.write_request().write_data()
    path = job.workspace / job.paths.review_sample
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row.model_dump_json(by_alias=True, exclude_none=True) + "\n" for row in ROWS))
    return job
