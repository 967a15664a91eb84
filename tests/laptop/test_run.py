"""`tunegate run` from manifests to a published model, with real processes and a tiny model."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from support.command import FEW_CHECKPOINTS, manifests
from support.waiting import eventually
from tunegate_api.validation.problems import find_problems

pytestmark = pytest.mark.model


def published(command) -> Path:
    (version,) = (command.runs / "volumes" / "models" / "orders").glob("orders-*")
    return version


def test_passing_model_is_published_with_its_evidence(finished):
    status = finished.status()
    assert status["phase"] == "Succeeded"
    assert status["final"]["verdict"] == "Passed"
    version = published(finished)
    names = {str(path.relative_to(version)) for path in version.rglob("*") if path.is_file()}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= names
    assert {"evidence/plan.json", "evidence/verdict.json"} <= names
    assert (version.parent / "latest").resolve() == version


@pytest.mark.slow
def test_job_without_an_adapter_publishes_a_whole_model(tunegate, tiny_model):
    training = {"maxSteps": 15, "learningRate": "0.003", "batchSize": 4, "maxLength": 128, "seed": 1}
    stages = [{"name": "sft", "method": "SFT", "training": training}]
    tunegate.write(tiny_model, stages=stages, **FEW_CHECKPOINTS)
    result = tunegate("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert tunegate.status()["final"]["verdict"] == "Passed"
    names = {path.name for path in published(tunegate).iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.startswith("adapter")]


@pytest.mark.slow
@pytest.mark.parametrize("parent", ["my data ü", "50%20off"])
def test_run_below_a_folder_of_any_name_publishes_its_model(tunegate, tiny_model, parent):
    here = replace(tunegate, folder=tunegate.folder / parent)
    here.folder.mkdir()
    sources = [{"name": "train", "uri": "file://../new%20rows%205%25.jsonl"}]
    data = {"goal": "StyleOrFormat", "sizePolicy": "Warn", "sources": sources, "heldOut": {"fraction": "25%"}}
    publish = [{"uri": "file://../published%20ü"}]
    here.write(tiny_model, data=data, publish=publish, **FEW_CHECKPOINTS)
    (here.folder / "new rows 5%.jsonl").write_text(manifests(tiny_model)[0]["data"]["train.jsonl"])
    result = here("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert list((here.folder / "published ü").glob("orders-*/adapter_model.safetensors"))


def test_status_file_is_a_valid_finetunejob(finished):
    resource = yaml.safe_load((finished.runs / "orders" / "status.yaml").read_text())
    assert (resource["apiVersion"], resource["kind"]) == ("tunegate.dev/v1alpha2", "FineTuneJob")
    assert find_problems(resource) == []
    assert {c["type"]: c["status"] for c in resource["status"]["conditions"]}["Ready"] == "True"


def test_every_checkpoint_has_golden_and_dev_results(finished):
    checkpoints = finished.status()["checkpoints"]
    assert [c["step"] for c in checkpoints] == [3, 6, 9, 12, 15]
    for checkpoint in checkpoints:
        assert checkpoint["gates"][0]["golden"]["total"] == 20
        assert "exact_match" in checkpoint["task"]


def test_report_is_an_html_page_with_cases(finished):
    html = (finished.runs / "orders" / "report.html").read_text()
    assert html.lstrip().lower().startswith("<!doctype html>")
    assert "case-0" in html


def test_finished_job_is_not_run_again(finished):
    logs = sorted((finished.runs / ".cluster" / "logs").iterdir())
    result = finished("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert sorted((finished.runs / ".cluster" / "logs").iterdir()) == logs


def test_status_lists_jobs_and_verdicts(finished):
    result = finished("status")
    assert "orders" in result.stdout
    assert "Succeeded" in result.stdout
    assert "final gate  Passed" in finished("status", "orders").stdout


def test_evalgate_keeps_a_record_of_the_published_model(finished):
    (path,) = (finished.runs / ".cluster" / "objects" / "EvalGate").rglob("*.yaml")
    status = yaml.safe_load(path.read_text())["status"]
    assert (status["cases"], status["lastVerdict"]) == (20, "Passed")
    assert status["records"][0]["publishedUris"] == ["pvc://models/orders"]


def test_changed_spec_is_refused(finished, tiny_model):
    finished.write(
        tiny_model,
        folder="changed",
        data={"goal": "StyleOrFormat", "sources": [{"name": "train", "configMap": "rows"}]},
    )
    result = finished("run", "changed")
    assert result.returncode == 1
    assert "its spec is immutable, but the manifest has other values for: data" in result.stdout


def test_wrong_manifests_are_refused_with_file_and_line(tunegate, tiny_model):
    tunegate.write(tiny_model, taskMetrics=[], epochs=3)
    result = tunegate("run", "manifests")
    assert result.returncode == 2
    assert "manifests/all.yaml:" in result.stdout
    assert "taskMetrics" in result.stdout
    assert "epochs" in result.stdout
    assert not tunegate.runs.exists()


def test_job_with_bad_rows_fails_before_training(tunegate, tiny_model):
    tunegate.write(tiny_model)
    path = tunegate.folder / "manifests" / "all.yaml"
    documents = list(yaml.safe_load_all(path.read_text()))
    documents[0]["data"]["train.jsonl"] += "{broken\n"
    path.write_text(yaml.safe_dump_all(documents))
    result = tunegate("run", "manifests")
    assert result.returncode == 1
    failure = tunegate.status()["failure"]
    assert failure["reason"] == "BadData"
    assert "line 65: the row is not JSON" in failure["message"]
    assert "train" not in {a["role"] for a in tunegate.status()["attempts"]}


def test_model_with_a_low_f1_is_not_published(tunegate, tiny_model):
    """Every fourth row has the label no, for which nothing in the prompt is a reason."""
    metric = {"name": "f1", "type": "F1", "average": "Macro", "min": "90%"}
    tunegate.write(tiny_model, taskMetrics=[metric], **FEW_CHECKPOINTS)
    path = tunegate.folder / "manifests" / "all.yaml"
    documents = list(yaml.safe_load_all(path.read_text()))
    rows = documents[0]["data"]["train.jsonl"].splitlines()
    rows[::4] = [row.replace('"yes"', '"No"') for row in rows[::4]]
    documents[0]["data"]["train.jsonl"] = "\n".join(rows)
    path.write_text(yaml.safe_dump_all(documents))
    result = tunegate("run", "manifests")
    assert result.returncode == 1, result.stdout
    status = tunegate.status()
    assert status["failure"]["reason"] == "GateFailed"
    assert "the mean of 2 labels" in status["final"]["taskMessage"]
    assert 0 < float(status["final"]["task"]["f1"]) < 0.9
    assert not (tunegate.runs / "volumes" / "models" / "orders").exists()
    report = (tunegate.runs / "orders" / "report.html").read_text()
    assert "f1 of each label, test" in report
    assert '<th scope="row">no</th>' in report


@pytest.fixture(scope="session")
def undisturbed(finished) -> dict[int, float]:
    return finished.stage.losses()


def test_run_resumed_after_ctrl_c_has_losses_of_uninterrupted(tunegate, tiny_model, undisturbed):
    tunegate.write(tiny_model)
    process = tunegate.start("run", "manifests")
    eventually(lambda: tunegate.stage.checkpoints() != [], seconds=120)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "the same command resumes" in output
    assert tunegate.trainer is None
    result = tunegate("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert tunegate.stage.losses() == pytest.approx(undisturbed, abs=1e-4)


@pytest.mark.slow
def test_killed_command_adopts_its_trainer_when_run_again(tunegate, tiny_model, undisturbed):
    tunegate.write(tiny_model)
    process = tunegate.start("run", "manifests")
    found = eventually(lambda: tunegate.trainer, seconds=120)
    eventually(lambda: tunegate.stage.checkpoints() != [], seconds=120)
    process.kill()
    process.communicate()
    result = tunegate("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert tunegate.stage.writers() == 1, f"a second writer started, beside {found}"
    assert tunegate.stage.losses() == pytest.approx(undisturbed, abs=1e-4)


@pytest.mark.exhaustive
def test_killed_trainer_resumes_from_its_checkpoint(cold, tiny_model, undisturbed):
    cold.write(tiny_model)
    process = cold.start("run", "manifests")
    found = eventually(lambda: cold.trainer, seconds=120)
    eventually(lambda: cold.stage.checkpoints() != [], seconds=120)
    os.kill(found.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert cold.stage.losses() == pytest.approx(undisturbed, abs=1e-4)


def test_killed_command_and_trainer_resume_from_the_checkpoint(tunegate, tiny_model, undisturbed):
    tunegate.write(tiny_model)
    process = tunegate.start("run", "manifests")
    found = eventually(lambda: tunegate.trainer, seconds=120)
    eventually(lambda: tunegate.stage.checkpoints() != [], seconds=120)
    process.kill()
    os.kill(found.pid, signal.SIGKILL)
    process.communicate()
    result = tunegate("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert tunegate.stage.losses() == pytest.approx(undisturbed, abs=1e-4)


def test_status_and_report_show_cost_and_estimated_memory(finished):
    status = finished.status()
    (stage,) = status["cost"]["stages"]
    assert (stage["stage"], stage["steps"]) == ("sft", 15)
    assert stage["tokens"] > 15 * 4
    assert float(stage["trainingSeconds"]) > 0
    assert 0 < float(status["cost"]["evaluationShare"]) < 1
    assert status["plan"]["memory"][0]["stage"] == "sft"
    shown = finished("status", "orders").stdout
    assert "cost      sft: 15 steps in " in shown
    assert f"{stage['tokensPerSecond']} tokens/s" in shown
    page = (finished.runs / "orders" / "report.html").read_text()
    assert "Steps took " in page
    assert "memory, estimated" in page
