"""The final gate evaluates published versions on today's golden set: the last one and the pinned version."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.published_version import age
from support.trainer_root import ALL_WEIGHTS, STAGE, TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract.baselines import BASELINES_VARIABLE, write_baselines
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Role, Termination
from tunegate_api.judging.judgement import judge_final
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.artifacts.evidence import evaluated_digest
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.evaluate import published as published_module
from tunegate_trainer.main import main
from tunegate_trainer.process.files import read_manifest, seal
from tunegate_trainer.roles import train as train_role

pytestmark = pytest.mark.model
STEP = 12
VERSION = "orders-0f7c9"
SPEC = {
    "publish": [{"uri": "pvc://models/orders"}],
    "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "0%"}],
}


def job(path: Path, name: str, gate: str, cases: int, parameters: dict[str, Any]) -> TrainerRoot:
    gates = {gate: gate_spec(golden_cases(cases), compareWith=[{"type": "LastPublished"}])}
    return TrainerRoot(path, parameters, name=name, checkpoint_steps=(STEP,), gates=gates, spec=SPEC)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({}, id="adapter"),
        pytest.param(ALL_WEIGHTS, id="all weights", marks=pytest.mark.slow),
    ],
)
def published(request, tmp_path_factory, tiny_model) -> tuple[Path, dict[str, Any]]:
    """The root of a job that published a version, and its parameters. Tests must not write to it."""
    path = tmp_path_factory.mktemp("published") / "root"
    root = job(path, "orders", "orders-v1", 20, request.param).write(tiny_model)
    (path / "volumes" / "models").mkdir(parents=True)
    train_role.run(root.context())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(path))
        assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
        assert main(["publish", "--digest", result(root).artifact]) == ExitCode.OK
    return path, request.param


@pytest.fixture
def later(published, tmp_path, monkeypatch) -> TrainerRoot:
    """A later job with the same artifact, and a gate of its own with five cases more."""
    path, parameters = published
    shutil.copytree(path, tmp_path / "root", symlinks=True)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    root = job(tmp_path / "root", "later", "orders-v2", 25, parameters)
    root.write_request()
    shutil.rmtree(root.workspace / root.paths.gate)
    shutil.rmtree(root.workspace / root.paths.outbox)
    return root


@pytest.fixture
def pinning(later) -> TrainerRoot:
    """The later job, whose gate pins the version and has no other baseline."""
    digest = read_manifest(version(later)).digest
    pinned = {"uri": f"pvc://models/orders/{VERSION}", "digest": digest}
    later.gates["orders-v2"]["compareWith"] = [{"type": "Version", "version": pinned}]
    later.write_request()
    return later


def result(root: TrainerRoot) -> GateRoleResult:
    return GateRoleResult.model_validate_json((root.workspace / root.paths.gate / "result.json").read_bytes())


def judge(root: TrainerRoot) -> GateRoleResult:
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
    return result(root)


def version(root: TrainerRoot) -> Path:
    return root.path / "volumes" / "models" / "orders" / VERSION


def change_evidence(folder: Path, **changes: Any) -> None:
    path, digest = folder / "evidence" / "verdict.json", json.loads((folder / "manifest.json").read_text())
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    seal(folder, digest["digest"])


def test_published_version_is_the_baseline_on_the_grown_set(later):
    judged = judge(later)
    (verdict, _) = judged.verdicts
    assert verdict.state is VerdictState.PASSED
    assert f"golden 25/25, LastPublished ({VERSION}, judged again) 25/25: +0.0 points" in verdict.message
    folder = later.workspace / later.paths.gate
    again, own = (folder / f"{prefix}golden-orders-v2.jsonl" for prefix in (f"{VERSION}-", ""))
    assert again.read_text() == own.read_text(), "they are the same model"
    reported = judge_final(later.context().request, later.report(Role.GATE).results)
    assert reported is not None
    assert reported.gates[0].verdict.message == verdict.message


def test_version_judged_again_is_in_the_evidence_of_the_next(later):
    artifact = judge(later).artifact
    assert main(["publish", "--digest", artifact]) == ExitCode.OK
    evidence = json.loads((version(later).parent / "later-0f7c9" / "evidence" / "verdict.json").read_text())
    (gate,) = evidence["gates"]
    assert gate["baselines"]["LastPublished"]["deltaPoints"] == "+0.0"
    assert any(f"({VERSION}, judged again)" in finding["message"] for finding in gate["findings"])


def test_version_is_judged_again_only_once_for_a_set(later, monkeypatch):
    first = judge(later)
    ended = Termination.model_validate_json((later.path / "termination.json").read_bytes())
    monkeypatch.setenv(BASELINES_VARIABLE, write_baselines(ended.baselines))
    monkeypatch.setattr(published_module, "load_base", None)
    second = judge(later)
    assert second.rejudged == first.rejudged != {}


def test_changed_published_version_is_an_error(later):
    (weights,) = version(later).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    judged = judge(later)
    assert judged.verdict is VerdictState.ERROR
    assert f"Cannot compare with LastPublished ({VERSION}): " in judged.verdicts[0].message
    assert f"it was changed: {weights.name}" in judged.verdicts[0].message


def test_adapter_of_a_missing_base_model_is_an_error(later):
    change_evidence(version(later), baseModelDigest="e" * 64)
    judged = judge(later)
    is_adapter = (version(later) / "adapter_config.json").exists()
    assert judged.verdict is (VerdictState.ERROR if is_adapter else VerdictState.PASSED)
    missing = "an adapter of another base model, which is not on the job's volume"
    assert (missing in judged.verdicts[0].message) is is_adapter


def test_version_without_details_of_its_evaluation_is_an_error(later):
    folder = version(later)
    change_evidence(folder, dtype=None)
    age(folder)
    judged = judge(later)
    assert judged.verdict is VerdictState.ERROR
    assert "its evidence/verdict.json cannot be read: dtype: " in judged.verdicts[0].message


def test_changed_files_with_the_old_digest_are_an_error(later):
    (weights,) = version(later).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    seal(version(later), read_manifest(version(later)).digest)
    judged = judge(later)
    assert judged.verdict is VerdictState.ERROR
    assert "it was changed: its files do not have the digest" in judged.verdicts[0].message


def without(folder: Path, name: str) -> None:
    """Remove a file from a version, as if it had been published without it."""
    (folder / name).unlink()
    seal(folder)
    change_evidence(folder, artifactDigest=evaluated_digest(folder))
    seal(folder, evaluated_digest(folder))


def test_version_of_an_early_release_without_generation_config_is_judged(later):
    without(version(later), "generation_config.json")
    assert judge(later).verdict is VerdictState.PASSED


def test_version_that_cannot_be_loaded_is_an_error(later):
    config = "adapter_config.json"
    without(version(later), config if (version(later) / config).exists() else "config.json")
    judged = judge(later)
    assert judged.verdict is VerdictState.ERROR
    assert "it cannot be judged on today's golden set: " in judged.verdicts[0].message


def test_pinned_version_is_evaluated_on_the_golden_set(pinning):
    judged = judge(pinning)
    (verdict, _) = judged.verdicts
    assert f"golden 25/25, Version ({VERSION}) 25/25: +0.0 points" in verdict.message
    reported = judge_final(pinning.context().request, pinning.report(Role.GATE).results)
    assert reported is not None
    assert reported.gates[0].baselines == {"Version": 25}
    assert main(["publish", "--digest", judged.artifact]) == ExitCode.OK
    published = version(pinning).parent / "later-0f7c9" / "evidence" / "verdict.json"
    assert json.loads(published.read_text())["gates"][0]["baselines"]["Version"]["passed"] == 25


def test_changed_dry_run_version_does_not_end_the_gate(pinning):
    (weights,) = version(pinning).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    pinning.gates["orders-v2"]["enforcement"] = "DryRun"
    pinning.write_request()
    judged = judge(pinning)
    assert judged.verdicts[0].state is VerdictState.ERROR
    assert "was not measured" in judged.verdicts[0].message


def test_changed_version_ends_the_gate_with_its_field(pinning):
    (weights,) = version(pinning).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.USER_ERROR
    failure = pinning.report(Role.GATE).failure
    assert failure is not None
    assert failure.message.startswith(
        "EvalGate orders-v2: spec.compareWith[Version].version cannot be judged: it was changed: "
    )
