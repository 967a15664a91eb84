"""The publish role publishes an approved or overridden model with the person's decision as evidence."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.job_folder import UID, JobFolder
from tunegate_api.contract.digests import canonical_json
from tunegate_api.contract.results import Results
from tunegate_api.judging.approval import DECISION_VARIABLE, verdict_digest
from tunegate_api.judging.judgement import judge_final
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.report import render
from tunegate_trainer.roles.publish import read_gate_results, run

PASSING = {"base": ("p" * 10 + "f" * 10, "pp" + "f" * 8), "final": ("p" * 19 + "f", "p" * 9 + "f")}
FAILING = {**PASSING, "final": ("p" * 17 + "fff", "p" * 9 + "f")}
UNMEASURED = {**PASSING, "final": ("p" * 19 + "e", "p" * 9 + "f")}
TIME = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)


def job_with(tmp_path: Path, **gate: Any) -> JobFolder:
    (tmp_path / "volumes" / "models").mkdir(parents=True)
    return JobFolder(tmp_path, gate_spec=gate).write_request().write_data()


def published(job: JobFolder) -> Path:
    return job.root / "volumes" / "models" / "invoice-extractor" / f"invoice-extractor-{UID[:5]}"


def verdict_of(context: Context, results: Results) -> str:
    judged = judge_final(context.request, results)
    assert judged is not None
    return verdict_digest(judged)


def decided(
    job: JobFolder, digest: str, action: str, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> None:
    """Set the decision in the environment, as the operator does in the Job."""
    results, _ = read_gate_results(job.context(digest=digest), digest)
    verdict = verdict_of(job.context(), results)
    value = {"action": action, "about": verdict, "by": "ana", "reason": "1 | 2 <b>", "time": TIME} | changes
    monkeypatch.setenv(DECISION_VARIABLE, canonical_json(PersonDecision.model_validate(value)))


def test_model_without_the_required_approval_is_not_published(tmp_path: Path) -> None:
    job = job_with(tmp_path, approval="WhenPassed")
    with pytest.raises(UserError, match="not published: invoice-golden requires an approval of the verdict"):
        run(job.context(digest=job.write_gate(**PASSING)))
    assert not published(job).exists()


def test_approval_is_in_evidence_and_on_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_with(tmp_path, approval="WhenPassed")
    digest = job.write_gate(**PASSING)
    decided(job, digest, "approve", monkeypatch)
    run(job.context(digest=digest))

    evidence = json.loads((published(job) / "evidence" / "verdict.json").read_text())
    assert evidence["verdict"] == "Passed"
    decision = evidence["decision"]
    assert (decision["action"], decision["by"], decision["reason"]) == ("approve", "ana", "1 | 2 <b>")
    assert decision["about"] == evidence["verdictDigest"]
    assert decision["time"].startswith("2026-05-04T10:30:00")
    card = (published(job) / "README.md").read_text()
    assert "| Approved by | ana, 2026-05-04T10:30:00+00:00: 1 \\| 2 &lt;b> |" in card
    assert "published by Tunegate after it\npassed invoice-golden." in card


def test_overridden_model_is_published_as_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with(tmp_path, approval="WhenFailed")
    digest = job.write_gate(**FAILING)
    decided(job, digest, "override", monkeypatch)
    context = job.context(digest=digest)
    run(context)

    evidence = json.loads((published(job) / "evidence" / "verdict.json").read_text())
    assert (evidence["verdict"], evidence["decision"]["action"]) == ("Failed", "override")
    card = (published(job) / "README.md").read_text()
    assert "| Verdict | **Failed** |\n| Overridden by | ana, 2026-05-04" in card
    assert (
        "published by Tunegate after a person\noverrode its verdict: it did not pass invoice-golden." in card
    )
    page = render(context.workspace, context.request, None, context.decision).read_text()
    assert "Failed and published" in page
    assert "ana overrode the verdict: 1 | 2 &lt;b&gt;" in page


@pytest.mark.parametrize(
    ("gate", "measured", "action", "changes"),
    [
        ({"approval": "WhenFailed"}, FAILING, "override", {"about": "e" * 64}),
        ({"approval": "WhenFailed"}, FAILING, "approve", {}),
        ({"approval": "WhenFailed"}, UNMEASURED, "override", {}),
        ({}, FAILING, "override", {}),
        ({"approval": "WhenPassed"}, PASSING, "approve", {"about": "e" * 64}),
        ({"approval": "WhenPassed"}, PASSING, "reject", {}),
    ],
)
def test_decision_that_does_not_fit_the_results_publishes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate: dict[str, str],
    measured: dict[str, tuple[str, str]],
    action: str,
    changes: dict[str, str],
) -> None:
    job = job_with(tmp_path, **gate)
    digest = job.write_gate(**measured)
    decided(job, digest, action, monkeypatch, **changes)
    with pytest.raises(UserError, match="not published"):
        run(job.context(digest=digest))
    assert not published(job).exists()


def test_override_does_not_cover_a_better_version_published_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with(tmp_path, approval="WhenFailed")
    digest = job.write_gate(**FAILING)
    decided(job, digest, "override", monkeypatch)
    rival = JobFolder(tmp_path / "rival", name="rival", uid="b" * 36).write_request().write_data()
    models = tmp_path / "volumes" / "models"
    (rival.root / "volumes").mkdir()
    (rival.root / "volumes" / "models").symlink_to(models)
    monkeypatch.delenv(DECISION_VARIABLE)
    run(rival.context(digest=rival.write_gate(**{**PASSING, "final": ("p" * 20, "p" * 10)})))
    decided(job, digest, "override", monkeypatch)
    run(job.context(digest=digest))
    assert not published(job).exists()
    assert job.context().report.published == []
    assert job.context().report.results.last_published is not None, "the operator computes the same verdict"


def test_later_models_are_compared_with_an_overridden_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with(tmp_path, approval="WhenFailed")
    digest = job.write_gate(**FAILING)
    decided(job, digest, "override", monkeypatch)
    run(job.context(digest=digest))
    monkeypatch.delenv(DECISION_VARIABLE)
    later = JobFolder(tmp_path / "later", name="later", uid="c" * 36).write_request().write_data()
    (later.root / "volumes").mkdir()
    (later.root / "volumes" / "models").symlink_to(tmp_path / "volumes" / "models")
    run(later.context(digest=later.write_gate(**PASSING)))
    read = later.context().report.results.last_published
    assert read is not None
    assert read.versions["invoice-golden"].job == job.name
