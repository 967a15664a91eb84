"""Train, gate and publish a tiny model, each by the trainer's command, with the files of the previous
role."""

import json

import pytest

from support.trainer_root import STAGE, gate_spec, golden_cases
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role
from tunegate_api.contract.results import Subject
from tunegate_trainer.main import main
from tunegate_trainer.process.files import read_manifest, verify

pytestmark = pytest.mark.model
STEP = 20
PUBLISH = {"publish": [{"uri": "pvc://models/orders"}]}


def run_roles(root, monkeypatch):
    """Train, judge and publish. Return the exit code of the publish role."""
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    (root.path / "volumes" / "models").mkdir(parents=True)
    assert main(["train", "--stage", STAGE]) == ExitCode.OK
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
    (final,) = root.report(Role.GATE).results.find(Subject.FINAL)
    return main(["publish", "--digest", str(final.digest)])


def test_trained_and_passed_artifact_is_published(make_root, monkeypatch):
    root = make_root(checkpoint_steps=(10, STEP), spec=PUBLISH)
    assert run_roles(root, monkeypatch) == ExitCode.OK

    report = root.report(Role.PUBLISH)
    assert report.outcome is Outcome.COMPLETED
    published = root.path / "volumes" / "models" / "orders" / "orders-0f7c9"
    assert report.published[0].uri == "pvc://models/orders/orders-0f7c9"
    assert verify(published) == []
    assert read_manifest(published).digest == report.published[0].digest
    verdict = json.loads((published / "evidence" / "verdict.json").read_text())
    assert (verdict["gates"][0]["passed"], verdict["taskMetrics"][0]["passed"]) == (20, 6)

    html = (root.workspace / root.paths.report).read_text()
    assert "Passed and published" in html
    assert f"stage {STAGE}" in html
    assert "golden order 0 mug" in html, "the prompts of the cases, with what was answered"


def test_publish_role_refuses_an_artifact_that_failed_the_gate(make_root, monkeypatch):
    gates = {"orders": gate_spec(golden_cases(20, expect="no"), limits={"minPassRate": "50%"})}
    root = make_root(checkpoint_steps=(10, STEP), spec=PUBLISH, gates=gates)
    assert run_roles(root, monkeypatch) == ExitCode.USER_ERROR

    assert list((root.path / "volumes" / "models").iterdir()) == []
    failure = root.report(Role.PUBLISH).failure
    assert failure is not None
    assert (
        "not published, the verdict is Failed: orders: golden 0/20 = 0.00, required 0.50" in failure.message
    )
    assert "Publishing failed" in (root.workspace / root.paths.report).read_text()
