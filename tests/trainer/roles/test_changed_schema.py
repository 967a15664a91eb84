"""The ConfigMap with the schema of a task metric is changed while its job runs."""

import json
import shutil
from pathlib import Path

import pytest

from support.trainer_root import STAGE, TrainerRoot, orders_spec
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Role
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.main import main

STEPS = 2
SCHEMA = {"type": "object", "required": ["mugs"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> TrainerRoot:
    """A root whose data and train roles have run. Tests must not write to it."""
    rows = [{"prompt": f"order {n} mugs", "completion": json.dumps({"mugs": n})} for n in range(24)]
    metric = {"name": "json_schema", "type": "JSONSchema", "min": "0%", "schema": {"configMap": "schema"}}
    training = {"maxSteps": STEPS, "learningRate": "0.01", "batchSize": 4, "maxLength": 64}
    stage = {"name": STAGE, "method": "SFT", "adapter": {"type": "LoRA"}, "training": training}
    root = TrainerRoot(
        tmp_path_factory.mktemp("trained") / "root",
        inputs={
            "orders/train.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
            "schema/order.json": json.dumps(SCHEMA),
        },
        spec=orders_spec(tiny_model, {}, taskMetrics=[metric], stages=[stage], evaluation={"every": STEPS}),
    ).write_for_data(tiny_model)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(ROOT_VARIABLE, str(root.path))
        assert main(["data"]) == ExitCode.OK
        (root.path / "plan").mkdir()
        shutil.copy(root.data / "plan.json", root.path / "plan")
        assert train() == ExitCode.OK
    return root


@pytest.fixture
def root(trained: TrainerRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainerRoot:
    """A copy of the trained root, and the environment of a process in it."""
    shutil.copytree(trained.path, tmp_path / "root")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    return TrainerRoot(tmp_path / "root", spec=trained.spec)


def train() -> int:
    return main(["train", "--stage", STAGE])


def gate() -> int:
    return main(["gate", "--stage", STAGE, "--step", str(STEPS)])


def change_schema(root: TrainerRoot, text: str = "{}") -> None:
    (root.path / "inputs" / "schema" / "order.json").write_text(text)


def failure(root: TrainerRoot, role: Role) -> Failure:
    found = root.report(role).failure
    assert found is not None
    return found


def test_gate_refuses_schema_that_was_changed_after_the_plan(root: TrainerRoot) -> None:
    change_schema(root)
    assert gate() == ExitCode.BAD_DATA
    found = failure(root, Role.GATE)
    assert found.reason == Reason.BAD_DATA
    planned = root.context().plan.data.schemas_sha256["json_schema"]
    assert found.message == (
        "spec.taskMetrics[json_schema].schema was changed after the plan was made: it has sha256 "
        f"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a, but the plan has {planned}"
    )
    assert found.hint == "create the job again, and do not change the ConfigMap of the schema while it runs"
    assert not (root.workspace / root.paths.gate / "result.json").exists()


def test_training_refuses_schema_that_was_changed_after_the_plan(root: TrainerRoot) -> None:
    shutil.rmtree(root.stage_folder)
    change_schema(root)
    assert train() == ExitCode.BAD_DATA
    assert "spec.taskMetrics[json_schema].schema was changed" in failure(root, Role.TRAIN).message
    assert root.losses() == []


def test_gate_accepts_same_schema_in_another_format(root: TrainerRoot) -> None:
    change_schema(root, json.dumps(dict(reversed(SCHEMA.items())), indent=4))
    assert gate() == ExitCode.OK


def test_retried_data_role_plans_with_changed_schema(root: TrainerRoot) -> None:
    before = root.report(Role.DATA).plan
    change_schema(root)
    assert main(["data"]) == ExitCode.OK
    after = root.report(Role.DATA).plan
    assert before is not None
    assert after is not None
    assert after.data.schemas_sha256 != before.data.schemas_sha256
    assert after.data.train == before.data.train


def test_schema_that_an_answer_breaks_is_refused_before_training(root: TrainerRoot) -> None:
    change_schema(root, '{"required": ["cups"]}')
    assert main(["data"]) == ExitCode.BAD_DATA
