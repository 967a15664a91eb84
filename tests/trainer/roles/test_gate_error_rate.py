"""The final gate measures how often gates are wrong: repeated and planted evaluations of the artifact."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.trainer_root import ALL_WEIGHTS, STAGE, TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role
from tunegate_api.contract.results import ErrorRateOutcomes, Subject
from tunegate_api.verdict.outcomes import PASS, VerdictState
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.evaluate.error_rate import measure
from tunegate_trainer.main import main
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import CudaOutOfMemoryError, StorageError
from tunegate_trainer.process.files import read_manifest, verify
from tunegate_trainer.process.interruption import Interrupted
from tunegate_trainer.roles import error_rate as error_rate_role
from tunegate_trainer.roles import train as train_role

pytestmark = pytest.mark.model
STEP = 20
REPEATS = 3
EVALUATIONS = REPEATS + 2
RESULTS = "golden/orders"


def train(folder: Path, model: Path, **changes: Any) -> TrainerRoot:
    gates = {"orders": gate_spec(golden_cases(), errorRate={"repeats": REPEATS})}
    root = TrainerRoot(folder / "root", checkpoint_steps=(STEP,), gates=gates, **changes)
    train_role.run(root.write(model).context())
    return root


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny_model) -> TrainerRoot:
    """A root with a trained adapter. Tests must not write to it."""
    return train(tmp_path_factory.mktemp("adapter"), tiny_model)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model) -> TrainerRoot:
    """A root in which all weights were trained. Tests must not write to it."""
    return train(tmp_path_factory.mktemp("whole"), tiny_model, parameters=ALL_WEIGHTS)


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Callable[[TrainerRoot], TrainerRoot]:
    """Return a function that copies a root, and sets the environment of a process in it."""

    def copy(source: TrainerRoot) -> TrainerRoot:
        shutil.copytree(source.path, tmp_path / "root")
        monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
        return TrainerRoot(tmp_path / "root", checkpoint_steps=(STEP,), gates=source.gates)

    return copy


@pytest.fixture
def root(adapter, copied) -> TrainerRoot:
    return copied(adapter)


def gate(root: TrainerRoot) -> GateRoleResult:
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
    return written(root)


def written(root: TrainerRoot) -> GateRoleResult:
    return GateRoleResult.model_validate_json((root.workspace / root.paths.gate / "result.json").read_bytes())


def measured(root: TrainerRoot) -> ErrorRateOutcomes:
    found = gate(root).error_rates
    assert found is not None
    return found["orders"]


def change_request(root: TrainerRoot, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first gate in the job's request."""
    path = root.path / "request" / "request.json"
    request = json.loads(path.read_text())
    change(request["gates"][0])
    path.write_text(json.dumps(request))


@pytest.fixture
def activities(monkeypatch) -> list[str]:
    """What the process reports that it is doing."""
    found: list[str] = []
    send = Context.send_report

    def noted(self: Context, **changes: Any) -> None:
        progress = changes.get("progress")
        if progress and "error rate" in (progress.activity or ""):
            found.append(progress.activity)
        send(self, **changes)

    monkeypatch.setattr(Context, "send_report", noted)
    return found


@pytest.mark.parametrize("kind", ["adapter", pytest.param("whole", marks=pytest.mark.slow)])
def test_repeats_and_weaker_models_are_measured_and_reported(kind, request, copied):
    root = copied(request.getfixturevalue(kind))
    found = measured(root)
    request_gate = root.context().request.final_gates[0]
    assert (found.golden_sha256, found.scoring) == (request_gate.golden_sha256, request_gate.spec.scoring)
    assert found.base_digest == root.context().plan.model.digest
    assert found.reference == PASS * 20
    assert found.repeats == [found.reference] * REPEATS
    assert [planted.name for planted in found.planted] == [
        "strength 0.75",
        "strength 0.5",
        "shuffled answers",
    ]
    assert all(len(planted.outcomes) == 20 for planted in found.planted)
    assert found.evaluations == EVALUATIONS
    assert found.seconds > 0
    report = root.report(Role.GATE)
    assert report.results.error_rates == {"orders": found}
    assert report.results.evaluations == written(root).evaluations
    assert report.outcome is Outcome.COMPLETED


def test_planted_models_are_really_worse(root, monkeypatch):
    """Without any of its training, the model is the base model, which passes no case."""
    monkeypatch.setattr(measure, "STRENGTHS", (0.75, 0.0))
    by_name = {planted.name: planted.outcomes for planted in measured(root).planted}
    assert by_name["strength 0.0"].count(PASS) == 0
    assert by_name["strength 0.75"].count(PASS) > 0
    assert by_name["shuffled answers"] == PASS * 20, "each case has the same answer"


def test_artifact_is_unchanged_after_measuring_its_error_rate(whole, copied):
    root = copied(whole)
    judged = gate(root)
    artifact = root.workspace / root.paths.model
    assert not verify(artifact)
    assert read_manifest(artifact).digest == judged.artifact
    assert (root.workspace / root.paths.gate / "error-rate" / "orders" / "strength-0.5.json").exists()


def test_gate_with_a_known_error_rate_is_not_measured_again(root, activities):
    digest = root.context().plan.model.digest
    change_request(root, lambda each: each.update(measuredBases=[digest]))
    assert gate(root).error_rates is None
    assert not activities


def test_other_base_models_do_not_make_an_error_rate_known(root):
    change_request(root, lambda each: each.update(measuredBases=["0" * 64]))
    assert measured(root).evaluations == EVALUATIONS


def test_gate_that_the_artifact_fails_is_not_measured(root, activities):
    change_request(
        root,
        lambda each: each["spec"]["sets"][0].update(
            rules=[{"name": "critical", "cases": ["case-0", "none"], "minPassRate": "100%"}]
        ),
    )
    judged = gate(root)
    assert judged.verdict is not VerdictState.PASSED
    assert judged.error_rates is None
    assert not activities


def test_verdict_depends_on_the_measured_detection(root):
    """The weaker models pass all cases, so it is not known which share of worse models the gate finds."""
    change_request(root, lambda each: each["spec"]["errorRate"].update(minDetection="80%"))
    judged = gate(root)
    assert judged.error_rates is not None
    assert judged.verdict is VerdictState.INCONCLUSIVE
    assert "the planted regressions are worse by at most 0.0 points" in judged.verdicts[0].message


def test_pod_reports_which_evaluation_it_makes(root, activities):
    gate(root)
    assert activities == [
        f"measuring the error rate of orders, {number}/{EVALUATIONS}" for number in range(1, EVALUATIONS + 1)
    ]
    progress = root.report(Role.GATE).progress
    assert progress is not None
    assert progress.estimated_end is not None


@pytest.mark.parametrize(
    "error",
    [
        CudaOutOfMemoryError("the GPU is out of memory while evaluating"),
        StorageError("the volume is full"),
        RuntimeError("a kernel failed"),
    ],
)
def test_fault_while_measuring_keeps_the_verdict(root, monkeypatch, caplog, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(measure, "at_strength", fail)
    judged = gate(root)
    assert judged.verdict is VerdictState.PASSED
    assert judged.error_rates is None
    assert root.report(Role.GATE).outcome is Outcome.COMPLETED
    assert f"the error rate of gate orders is not known: {measure._problem(error)}" in caplog.text


def test_finished_evaluations_are_not_repeated_after_an_interruption(root, monkeypatch, activities):
    again, calls = measure.evaluate_again, []

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(args[3])
        if calls == [1, 2]:
            raise Interrupted
        return again(*args, **options)

    monkeypatch.setattr(measure, "evaluate_again", interrupted)
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.INTERRUPTED
    judged = written(root)
    assert judged.verdict is VerdictState.PASSED, "the verdict was written before"
    assert root.report(Role.GATE).results.find(Subject.FINAL)
    found = measured(root)
    assert calls == [1, 2, 2, 3]
    assert found.evaluations == EVALUATIONS
    assert len(activities) == 2 + EVALUATIONS - 1


def test_stored_evaluations_of_another_model_are_not_used(root, activities):
    gate(root)
    for path in (root.workspace / root.paths.gate / "error-rate" / "orders").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "0" * 64}))
    gate(root)
    assert len(activities) == 2 * EVALUATIONS


def add_gate(root: TrainerRoot) -> None:
    """Add a gate that is equal to the first one."""
    path = root.path / "request" / "request.json"
    request = json.loads(path.read_text())
    request["gates"].append(request["gates"][0] | {"name": "second"})
    request["spec"]["gates"].append({"name": "second"})
    path.write_text(json.dumps(request))


def test_all_gates_are_measured_with_one_loaded_model(adapter, copied, monkeypatch, activities):
    root = copied(adapter)
    add_gate(root)
    loads: list[str] = []
    load = measure.Artifact.model.func
    monkeypatch.setattr(measure.Artifact.model, "func", lambda self: loads.append("") or load(self))
    found = gate(root).error_rates
    assert found is not None
    assert list(found) == ["orders", "second"]
    assert activities[-1] == f"measuring the error rate of second, {2 * EVALUATIONS}/{2 * EVALUATIONS}"
    assert len(loads) == 1


def test_gate_after_a_fault_is_measured_with_the_judged_weights(adapter, copied, monkeypatch):
    root = copied(adapter)
    add_gate(root)
    weaken = measure.at_strength

    def fail_once(model: Any, *_: object) -> None:
        for parameter in model.parameters():
            parameter.data.zero_()
        monkeypatch.setattr(measure, "at_strength", weaken)
        raise StorageError("the volume cannot be read")

    monkeypatch.setattr(measure, "at_strength", fail_once)
    found = gate(root).error_rates
    assert found is not None
    assert list(found) == ["second"]
    assert set(found["second"].repeats) == {found["second"].reference}


def test_changed_dry_run_golden_set_is_the_named_problem(root):
    change_request(root, lambda each: each["spec"].update(enforcement="DryRun", errorRate=None))
    gate(root)
    change_request(root, lambda each: each.update(goldenSha256="0" * 64))
    found = error_rate_role.measure(root.context(Role.GATE), {"orders": 1}, lambda *_: None)
    assert found.problems["orders"].startswith("EvalGate orders: the golden set has sha256 ")
    assert "use the same release of Tunegate" in found.problems["orders"]
