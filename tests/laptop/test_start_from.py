"""`tunegate run` of a job that starts from the model of an earlier job."""

from pathlib import Path

import pytest

from support.command import FEW_CHECKPOINTS, manifests


def write_later(tunegate, model: Path, **changes) -> None:
    tunegate.write_all(
        manifests(model, "later", **{"model": {"startFrom": "orders"}, **changes}),
        "second",
    )


@pytest.mark.slow
@pytest.mark.model
def test_job_starts_from_the_model_of_an_earlier_job(after_run, tiny_model):
    write_later(
        after_run,
        tiny_model,
        storage={"persistentVolumeClaim": "fresh"},
        publish=[{"uri": "pvc://models/later"}],
        **FEW_CHECKPOINTS,
    )
    second = after_run("run", "second")
    assert second.returncode == 0, second.stdout

    orders, later = after_run.status("orders"), after_run.status("later")
    uid = after_run.object("orders")["metadata"]["uid"]
    assert later["plan"]["model"]["startFrom"] == "orders"
    assert later["plan"]["model"]["uri"] == f"pvc://tuning/tunegate/jobs/{uid}/model"
    assert later["start"][0]["gates"][0]["golden"]["rate"] == orders["final"]["gates"][0]["golden"]["rate"]
    before, after = (float(s["final"]["gates"][0]["golden"]["rate"]) for s in (orders, later))
    drop = later["final"]["gates"][0]["golden"]["deltaPoints"]["BaseModel"]
    assert float(drop) == 100 * (after - before), "the gate compares with the starting model"
    (version,) = (after_run.runs / "volumes/models/later").glob("later-*")
    names = {path.name for path in version.iterdir()}
    assert "model.safetensors" in names, "an adapter would need a base model that is not published"
    assert "the model of FineTuneJob orders" in (version / "README.md").read_text()


def test_start_from_an_unknown_job_is_refused(quick):
    write_later(quick, Path("/nowhere"))
    result = quick("run", "second", seconds=60)
    assert result.returncode == 1, result.stdout
    assert "starts from job orders, which has not run in this runs folder. Run orders first." in result.stdout


def test_start_from_a_stopped_job_is_refused(quick):
    quick.environment["STAND_IN"] = "stops"
    assert quick("run", quick.write(Path("/nowhere"))).returncode == 3
    write_later(quick, Path("/nowhere"))
    result = quick("run", "second", seconds=60)
    assert result.returncode == 1, result.stdout
    assert "starts from job orders, which has not ended: its phase is Stopped." in result.stdout


@pytest.mark.slow
def test_jobs_of_one_command_run_in_start_from_order(quick):
    quick.environment["STAND_IN"] = "passes"
    later = manifests(Path("/nowhere"), "later", model={"startFrom": "orders"})[-1]
    quick.write_all([*manifests(Path("/nowhere")), later])
    result = quick("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert quick.status("later")["startTime"] >= quick.status("orders")["completionTime"]
