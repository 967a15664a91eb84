"""The final gate compares the artifact with the versions at the publish targets after its evaluation."""

import shutil
from pathlib import Path

import pytest

from support.published_version import age, publish_version
from support.trainer_root import STAGE, TrainerRoot, gate_spec
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Role
from tunegate_api.judging.judgement import judge_final
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.main import main
from tunegate_trainer.roles import train as train_role

pytestmark = pytest.mark.model
STEP = 3
SPEC = {
    "publish": [{"uri": "pvc://models/orders"}],
    "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "0%"}],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model) -> Path:
    """The root of an untrained stage. Tests must not write to it."""
    root = make(tmp_path_factory.mktemp("trained") / "root").write(tiny_model)
    train_role.run(root.context())
    return root.path


def make(path: Path) -> TrainerRoot:
    gates = {"orders": gate_spec(compareWith=[{"type": "LastPublished"}])}
    return TrainerRoot(path, checkpoint_steps=(STEP,), gates=gates, spec=SPEC)


@pytest.fixture
def root(trained, tmp_path, monkeypatch) -> TrainerRoot:
    shutil.copytree(trained, tmp_path / "root")
    (tmp_path / "root" / "volumes" / "models").mkdir(parents=True)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    return make(tmp_path / "root")


@pytest.fixture
def target(root) -> Path:
    return root.path / "volumes" / "models" / "orders"


def judge(root: TrainerRoot) -> GateRoleResult:
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
    return GateRoleResult.model_validate_json((root.workspace / root.paths.gate / "result.json").read_bytes())


def publish_rival(root: TrainerRoot, target: Path, outcomes: str) -> Path:
    request = root.context().request
    gate = request.gate("orders")
    return publish_version(
        target,
        "rival-1a2b3",
        "orders",
        gate.golden_sha256,
        outcomes,
        generation=request.generation_of(gate),
    )


def test_version_published_during_training_is_the_baseline(root, target):
    publish_rival(root, target, "p" * 20)
    judged = judge(root)
    assert judged.verdict is VerdictState.FAILED
    assert "LastPublished (rival-1a2b3) 20/20" in judged.verdicts[0].message
    reported = judge_final(root.context().request, root.report(Role.GATE).results)
    assert reported is not None
    assert reported.state is VerdictState.FAILED
    assert "LastPublished (rival-1a2b3) 20/20" in (root.workspace / root.paths.report).read_text()


def test_damaged_published_version_fails_the_gate(root, target):
    rival = publish_rival(root, target, "f" * 20)
    (rival / "evidence" / "verdict.json").write_text("{}")
    age(rival)
    judged = judge(root)
    assert judged.verdict is VerdictState.ERROR
    assert "its evidence cannot be read" in judged.verdicts[0].message


def test_second_gate_attempt_reads_the_publish_target_again(root, target):
    publish_rival(root, target, "p" * 20)
    assert judge(root).verdict is VerdictState.FAILED
    shutil.rmtree(target / "rival-1a2b3")
    assert judge(root).verdict is VerdictState.PASSED
    last = root.report(Role.GATE).results.last_published
    assert (last.reading, last.versions) == (2, {})


def test_gate_fails_if_a_publish_target_is_not_mounted(root, target):
    """Without the versions at the target, the model could be worse than the last one."""
    shutil.rmtree(target.parent)
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.NOT_FOUND
    assert not (root.workspace / root.paths.gate / "result.json").exists()
