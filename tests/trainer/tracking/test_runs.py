"""The state of a job's runs, from the files on the volume."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.job_folder import JobFolder
from support.report_page import BASE, GOOD
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import PublishedArtifact
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_trainer.report.collect import collect
from tunegate_trainer.tracking.runs import RunState, runs_of


@pytest.mark.parametrize(
    ("targets", "published", "state"),
    [
        ([], [], RunState.FINISHED),
        (["pvc://a"], [], RunState.RUNNING),
        (["pvc://a"], ["pvc://a/v"], RunState.FINISHED),
        (["pvc://a", "pvc://b"], ["pvc://a/v"], RunState.RUNNING),
        (["pvc://a", "pvc://b"], ["pvc://a/v", "pvc://b/v"], RunState.FINISHED),
        (["pvc://a", "pvc://a"], ["pvc://a/v"], RunState.FINISHED),
    ],
)
def test_passed_jobs_tracker_run_ends_after_publishing_all_targets(
    tmp_path: Path, targets: list[str], published: list[str], state: RunState
) -> None:
    job = JobFolder(tmp_path, spec={"publish": [{"uri": uri} for uri in targets]}).write_data()
    digest = job.write_gate(base=(BASE, "p" * 10), final=(GOOD, "p" * 10))
    artifacts = [PublishedArtifact(uri=uri, digest=digest) for uri in published]
    job.write_report(Role.PUBLISH, published=artifacts)
    run, *_ = runs_of(collect(job.workspace, job.request))
    assert run.state is state


@pytest.mark.parametrize(
    ("published", "state"),
    [
        ([], RunState.FAILED),
        (["pvc://a/v"], RunState.FAILED),
        (["pvc://a/v", "pvc://b/v"], RunState.FINISHED),
    ],
)
def test_run_of_overridden_job_ends_after_all_targets_are_published(
    tmp_path: Path, published: list[str], state: RunState
) -> None:
    targets = [{"uri": "pvc://a"}, {"uri": "pvc://b"}]
    job = JobFolder(tmp_path, spec={"publish": targets}, gate_spec={"approval": "WhenFailed"}).write_data()
    digest = job.write_gate(base=(BASE, "p" * 10), final=("f" * 20, "p" * 10))
    artifacts = [PublishedArtifact(uri=uri, digest=digest) for uri in published]
    job.write_report(Role.PUBLISH, published=artifacts)
    run, *_ = runs_of(collect(job.workspace, job.request))
    assert run.state is state


def test_tracker_run_of_overridden_job_without_targets_has_finished(tmp_path: Path) -> None:
    job = JobFolder(tmp_path, spec={"publish": []}, gate_spec={"approval": "WhenFailed"}).write_data()
    job.write_gate(base=(BASE, "p" * 10), final=("f" * 20, "p" * 10))
    decision = PersonDecision(
        action="override", about="d" * 64, by="ana", reason="retired form", time=datetime.now(UTC)
    )
    before, after = (
        runs_of(collect(job.workspace, job.request, decision=known))[0] for known in (None, decision)
    )
    assert (before.state, after.state) == (RunState.FAILED, RunState.FINISHED)
    assert after.tags["verdict"] == "Failed"
