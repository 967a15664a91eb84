"""The evidence of a published model states the result of the review of its training data."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.graders import AGREEMENT
from support.job_folder import UID, JobFolder
from support.reviewed import IDS, JUDGE, MANUAL, SAMPLE, by_people, judged, reviewed_job
from tunegate_api.contract.plan import SamplePlan
from tunegate_api.judging.judge_model import add_judge, assess_judge
from tunegate_api.judging.review import ReviewRecord
from tunegate_api.v1alpha2.graders import RequiredAgreement
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.roles.publish import run

PASSING = {"base": ("p" * 10 + "f" * 10, "pp" + "f" * 8), "final": ("p" * 19 + "f", "p" * 9 + "f")}


def publish(job: JobFolder) -> tuple[dict[str, Any], str]:
    """Publish a model that passed. Return the evidence and the model card."""
    (job.root / "volumes" / "models").mkdir(parents=True)
    run(job.context(digest=job.write_gate(**PASSING)))
    folder = job.root / "volumes" / "models" / "invoice-extractor" / f"invoice-extractor-{UID[:5]}"
    verdict: dict[str, Any] = json.loads((folder / "evidence" / "verdict.json").read_text())
    return verdict, (folder / "README.md").read_text()


def with_judge(sample: SamplePlan, record: ReviewRecord) -> ReviewRecord:
    """Return the record with the votes of the judge, as the operator writes it."""
    assert sample.judge is not None
    wanted = RequiredAgreement.model_validate(AGREEMENT)
    return add_judge(record, sample, assess_judge(sample.judge, wanted))


def test_evidence_without_a_review_has_no_such_field(tmp_path: Path) -> None:
    verdict, card = publish(JobFolder(tmp_path).write_request().write_data())
    assert "review" not in verdict
    assert "was reviewed" not in card


def test_evidence_has_the_counts_of_a_review_by_people(tmp_path: Path) -> None:
    verdict, card = publish(reviewed_job(tmp_path, MANUAL, SAMPLE).write_review(by_people(bad=2)))
    assert verdict["review"] == {
        "sample": SAMPLE.sha256,
        "rows": 20,
        "minScore": "0.80",
        "reviewed": 20,
        "good": 18,
        "score": "0.90",
        "passed": True,
        "reviewers": 1,
        "judged": 0,
    }
    assert f"a sample of the training rows was reviewed (digest `{SAMPLE.sha256}`):" in card
    assert "\n- 18/20 rows are good = 0.90, minimum 0.80. People scored them.\n" in card


def test_evidence_has_the_calibration_of_the_judge(tmp_path: Path) -> None:
    sample = judged(bad=1, RateLimited=2)
    people = ReviewRecord.model_validate(
        {"sample": SAMPLE.sha256, "votes": [{"reviewer": "ana", "good": IDS[10:], "bad": []}]}
    )
    job = reviewed_job(tmp_path, JUDGE, sample).write_review(with_judge(sample, people))
    verdict, card = publish(job)
    review = verdict["review"]
    assert (review["good"], review["score"]) == (19, "0.95")
    assert (review["reviewers"], review["judged"]) == (1, 10)
    assert review["judge"] == {
        "model": "judge-7b",
        "instructionsSha256": "1" * 64,
        "calibration": "Passed",
        "calibrationSha256": "0" * 64,
        "recall": {"agreed": 20, "total": 20, "lowerBound": "0.83", "min": "0.70"},
        "specificity": {"agreed": 78, "total": 80, "lowerBound": "0.91", "min": "0.80"},
        "unscored": 1,
        "faults": {"RateLimited": 2},
    }
    assert "People and a judge model scored them." in card
    assert "calibration Passed: of the rows that people had scored, it found 20/20 bad ones" in card


def test_evidence_states_that_judge_scores_did_not_count(tmp_path: Path) -> None:
    job = reviewed_job(tmp_path, JUDGE, judged(bad_found=14)).write_review(by_people())
    review = publish(job)[0]["review"]
    assert review["judge"]["calibration"] == "Inconclusive"
    assert review["judge"]["recall"] == {"agreed": 14, "total": 20, "lowerBound": "0.48", "min": "0.70"}
    assert (review["reviewers"], review["judged"]) == (1, 0)


def test_evidence_has_no_notes_and_no_names_of_reviewers(tmp_path: Path) -> None:
    verdict, card = publish(reviewed_job(tmp_path, MANUAL, SAMPLE).write_review(by_people(bad=2)))
    for name in ("ana", "wrong total"):
        assert f'"{name}"' not in json.dumps(verdict)
        assert name not in card.split("## Parameters")[0].partition("was reviewed")[2]


def test_evidence_of_a_deleted_record_has_no_counts(tmp_path: Path) -> None:
    verdict, card = publish(reviewed_job(tmp_path, MANUAL, SAMPLE))
    assert verdict["review"] == {
        "sample": SAMPLE.sha256,
        "rows": 20,
        "minScore": "0.80",
    }
    assert "The scores were not available when the model was published" in card


@pytest.mark.parametrize(
    "record",
    [by_people(bad=5), by_people().model_copy(update={"sample": "6" * 64})],
    ids=["too many bad rows", "another sample"],
)
def test_model_without_a_passed_review_is_not_published(tmp_path: Path, record: ReviewRecord) -> None:
    job = reviewed_job(tmp_path, MANUAL, SAMPLE).write_review(record)
    with pytest.raises(UserError, match="not published, the review of the data is not passed"):
        publish(job)
    assert not any((job.root / "volumes" / "models").iterdir())
