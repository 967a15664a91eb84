"""`tunegate run` of a two-stage job with tracking in MLflow and, offline, in Weights & Biases."""

from contextlib import closing
from pathlib import Path

import pytest

from support.command import DPO_AFTER_SFT, Command, manifests, preference_pairs
from support.mlflow_server import TrackerProxy, points, runs_of
from support.stage_folder import StageFolder
from support.wandb_records import records, summary_of
from tunegate_api.contract.digests import canonical_json, sha256_text
from tunegate_api.contract.plan import Plan
from tunegate_trainer.tracking.mlflow_tracker import parameter_texts
from tunegate_trainer.tracking.runs import stage_parameters

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "token-of-the-tracker"
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "mlflow-token"},
    "stringData": {"MLFLOW_TRACKING_TOKEN": TOKEN},
}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, tiny_model, mlflow, warm) -> Command:
    """The working folder of a finished job with tracking. Tests must not change this folder."""
    tunegate = Command(tmp_path_factory.mktemp("tracked"), dict(warm))
    with closing(TrackerProxy(mlflow)) as proxy:
        proxy.token = TOKEN
        changes = DPO_AFTER_SFT | {
            "tracking": {
                "mlflow": {"uri": proxy.url, "experiment": "two-stages", "secretName": "mlflow-token"},
                "wandb": {"project": "orders"},
            },
            "podTemplate": {"env": [{"name": "WANDB_MODE", "value": "offline"}]},
        }
        tunegate.write_all([*manifests(tiny_model, **changes), preference_pairs(), SECRET])
        result = tunegate("run", "manifests", seconds=500)
    assert result.returncode == 0, result.stdout
    assert " is not up to date" not in tunegate.logs()
    return tunegate


def job_folder(tunegate: Command) -> Path:
    (plan,) = (tunegate.runs / "volumes" / "tuning").glob("tunegate/jobs/*/data/plan.json")
    return plan.parents[1]


def test_mlflow_has_all_parameters_metrics_and_verdicts(tracked, mlflow):
    folder, runs = job_folder(tracked), runs_of(mlflow, "two-stages")
    plan = Plan.model_validate_json((folder / "data" / "plan.json").read_bytes())
    job = runs.pop("orders")
    assert runs.keys() == {"orders/sft", "orders/dpo"}
    for stage in plan.stages:
        run, losses = runs[f"orders/{stage.name}"], StageFolder(folder / "stages" / stage.name).losses()
        assert run.data.tags["mlflow.parentRunId"] == job.info.run_id
        assert run.data.params == dict(parameter_texts(stage_parameters(stage)))
        assert points(mlflow, run, "train/loss") == sorted(losses.items())
        rates = dict(points(mlflow, run, "golden/golden/rate"))
        assert list(rates) == [0, *stage.checkpoint_steps]
        for step in stage.checkpoint_steps:
            verdict = "Passed" if rates[step] >= 0.8 else "Failed"
            assert run.data.tags[f"tunegate.verdict.step-{step:06d}"] == verdict
        assert run.info.status == "FINISHED"
    final = tracked.status()["final"]
    assert job.data.params["plan_sha256"] == sha256_text(canonical_json(plan))
    assert job.data.params["dpo.lora_r"] == "8"
    assert job.data.tags["tunegate.verdict"] == final["verdict"] == "Passed"
    assert job.data.tags["tunegate.published"].startswith("pvc://models/orders/")
    assert job.data.metrics["golden/golden/BaseModel_rate"] == 0
    assert job.info.status == "FINISHED"
    from mlflow.tracking import MlflowClient

    client = MlflowClient(mlflow)
    report = client.download_artifacts(job.info.run_id, "report.html")
    assert Path(report).read_bytes() == (folder / "report.html").read_bytes()


def test_offline_wandb_run_is_one_complete_folder(tracked):
    """An upload replaces the whole run, so if each pod had its own folder, its upload would overwrite the
    data of other pods."""
    folder = job_folder(tracked)
    plan = Plan.model_validate_json((folder / "data" / "plan.json").read_bytes())
    found = list((folder / "tracking" / "wandb").glob("offline-run-*"))
    assert len(found) == 1 + len(plan.stages)
    for stage in plan.stages:
        (run,) = [path for path in found if path.name.endswith(f"-{folder.name}-{stage.name}")]
        read = records(run)
        begun = next(one["run"] for one in read if one["type"] == "run")
        rows = [one["history"]["item"] for one in read if one["type"] == "history"]
        losses = StageFolder(folder / "stages" / stage.name).losses()
        assert {r["train/step"]: r["train/loss"] for r in rows if "train/step" in r} == losses
        assert [r["checkpoint/step"] for r in rows if "checkpoint/step" in r] == [0, *stage.checkpoint_steps]
        assert stage_parameters(stage).items() <= begun["config"]["update"].items()
        assert begun["run_group"] == folder.name
        summary = summary_of(read)
        verdicts = {name: value for name, value in summary.items() if name.startswith("verdict.step-")}
        assert len(verdicts) == len(stage.checkpoint_steps)
        assert summary[f"verdict.step-{stage.total_steps:06d}"] == "Passed"
    (run,) = [path for path in found if path.name.endswith(f"-{folder.name}")]
    summary = summary_of(records(run))
    assert summary["verdict"] == tracked.status()["final"]["verdict"] == "Passed"
    assert summary["golden/golden/BaseModel_rate"] == 0
    read = records(run)
    config = next(one["run"] for one in read if one["type"] == "run")["config"]["update"]
    assert config["plan_sha256"] == sha256_text(canonical_json(plan))
    assert config["model.digest"] == plan.model.digest
    (page,) = (run / "files" / "media" / "html").glob("report*")
    assert "Passed" in page.read_text()
