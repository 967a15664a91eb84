"""The report and the evidence show the error rate of a gate that the job measured."""

import json
from pathlib import Path

import pytest

from support.job_folder import BASE_DIGEST, GATE, JobFolder
from support.report_page import BASE, GOOD, page, text_of, train
from tunegate_api.contract.results import ErrorRateOutcomes, PlantedRegression
from tunegate_trainer.roles.publish import run


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    job = JobFolder(tmp_path, gate_spec={"errorRate": {"repeats": 2}})
    job.write_request().write_data()
    train(job, {0: BASE, 100: GOOD})
    return job


def measured(job: JobFolder) -> ErrorRateOutcomes:
    return ErrorRateOutcomes(
        golden_sha256=job.golden_sha256,
        base_digest=BASE_DIGEST,
        scoring=job.request.gates[0].spec.scoring,
        reference=GOOD,
        repeats=[GOOD, "f" + GOOD[1:]],
        planted=[PlantedRegression(name="strength 0.5", outcomes="f" * 10 + GOOD[10:])],
        evaluations=4,
        seconds=90,
    )


def test_report_shows_detection_rates_false_alarms_and_flaky_cases(job: JobFolder) -> None:
    job.write_gate(base=(BASE, "p" * 10), final=(GOOD, "p" * 10), error_rate=measured(job))
    html = page(job)
    text = text_of(html)
    assert "Error rate of the gates" in text
    assert "finds a 5-point drop in" in text
    assert "Measured with 4 evaluations in 1 min 30 s." in text
    assert "5 the limit of the gate" in text
    assert "Cases whose outcome changed between evaluations of the same model: case-0." in text
    assert f"Models that gate {GATE} finds, by how much worse they are" in html
    assert '<a href="#error-rate">' in html


def test_report_without_a_measured_error_rate_has_no_section(job: JobFolder) -> None:
    job.write_gate(base=(BASE, "p" * 10), final=(GOOD, "p" * 10))
    assert "error-rate" not in page(job)


def test_evidence_has_the_error_rate(job: JobFolder) -> None:
    digest = job.write_gate(base=(BASE, "p" * 10), final=(GOOD, "p" * 10), error_rate=measured(job))
    (job.root / "volumes" / "models").mkdir(parents=True)
    run(job.context(digest=digest))
    (written,) = (job.root / "volumes").rglob("evidence/verdict.json")
    (gate,) = json.loads(written.read_text())["gates"]
    assert gate["errorRate"]["flakyCases"] == ["case-0"]
    assert gate["errorRate"]["detection"][1]["points"] == "5"
    assert gate["findings"][-1]["rule"] == "errorRate"
