"""Manifests that changed after a job started: refusals, notes, and ``--again``."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.command import Command
from tunegate_api.contract.digests import sha256_text

NOWHERE = Path("/nowhere")
Objects = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory: pytest.TempPathFactory, stand_in: dict[str, str]) -> Path:
    """The folder of a run that passed. Tests must not change it."""
    command = Command(tmp_path_factory.mktemp("finished"), stand_in)
    command.write(NOWHERE)
    result = command("run", "manifests")
    assert result.returncode == 0, result.stdout
    return command.folder


@pytest.fixture
def ended(quick: Command, finished_folder: Path) -> Command:
    """A copy of the folder of a run whose job ``orders`` has passed."""
    shutil.copytree(finished_folder, quick.folder, symlinks=True, dirs_exist_ok=True)
    return quick


def uid(command: Command, name: str = "orders") -> str:
    (line,) = [
        line
        for line in (command.runs / name / "status.yaml").read_text().splitlines()
        if line.startswith("  uid:")
    ]
    return line


def lower_gate(objects: Objects) -> None:
    objects["golden"]["spec"]["sets"][0]["rules"][0]["minPassRate"] = "70%"


def another_row(objects: Objects) -> None:
    objects["rows"]["data"]["train.jsonl"] += json.dumps({"prompt": "one more", "completion": "yes"}) + "\n"


def another_golden_set(objects: Objects) -> None:
    cases = objects["cases"]["data"]["golden.jsonl"].replace('"yes"', '"no"')
    objects["cases"]["data"]["golden.jsonl"] = cases
    objects["golden"]["spec"]["sets"][0]["sha256"] = sha256_text(cases)


def another_name(objects: Objects) -> None:
    objects["orders"]["metadata"]["name"] = "others"


@pytest.mark.parametrize(
    ("change", "what"), [(lower_gate, "EvalGate golden"), (another_row, "ConfigMap rows")]
)
def test_rerun_with_changed_manifests_exits_with_2(ended, change, what):
    ended.edit(change)
    for _ in range(2):
        result = ended("run", "manifests")
        assert result.returncode == 2, result.stdout
        assert f"and did not use the new content of {what}: use --again" in result.stdout
    before = uid(ended)
    assert ended("run", "manifests", "--again").returncode == 0
    assert uid(ended) != before
    assert ended("run", "manifests").returncode == 0


def test_rerun_of_a_finished_job_prints_when_it_ended(ended):
    result = ended("run", "manifests")
    assert result.returncode == 0
    when = ended.status()["completionTime"].replace("T", " ").removesuffix("Z")
    assert f"orders already ended at {when} UTC: use --again to run it again" in result.stdout


def test_added_config_map_that_no_job_uses_is_ignored(ended):
    def another_config_map(objects: Objects) -> None:
        objects["unused"] = objects["rows"] | {"metadata": {"name": "unused"}}

    ended.edit(another_config_map)
    assert ended("run", "manifests").returncode == 0


def test_again_option_deletes_nothing_if_a_manifest_is_refused(ended):
    ended.write(NOWHERE, folder="others")
    ended.edit(another_name, folder="others")
    assert ended("run", "others").returncode == 0
    before = uid(ended)
    ended.edit(another_golden_set)
    result = ended("run", "manifests", "--again")
    assert result.returncode == 1
    assert "EvalGate golden exists and its golden set is immutable" in result.stdout
    assert "This EvalGate is also used by FineTuneJob others, so --again cannot replace it." in result.stdout
    assert uid(ended) == before
    assert ended.status()["phase"] == "Succeeded"


def test_again_replaces_a_golden_set_without_other_jobs(ended):
    ended.edit(another_golden_set)
    refused = ended("run", "manifests")
    assert refused.returncode == 1
    assert "start over with --again" in refused.stdout
    result = ended("run", "manifests", "--again")
    assert result.returncode == 0, result.stdout
    gate = (ended.runs / ".cluster" / "objects" / "EvalGate" / "default" / "golden.yaml").read_text()
    assert gate.count("modelDigest") == 1, "the record of the old set is deleted"


def test_immutable_config_map_change_is_refused_in_one_line(quick):
    quick.write(NOWHERE)
    quick.edit(lambda objects: objects["rows"].update(immutable=True))
    assert quick("run", "manifests").returncode == 0
    quick.edit(another_row)
    result = quick("run", "manifests")
    assert result.returncode == 1
    assert "ConfigMap rows exists and it is immutable" in result.stdout
    assert "Traceback" not in result.stdout
    assert quick("run", "manifests", "--again").returncode == 0


@pytest.mark.parametrize("on_delete", ["Delete", "Keep"])
def test_again_removes_files_of_the_earlier_run_if_asked(quick, on_delete):
    quick.write(NOWHERE, storage={"persistentVolumeClaim": "tuning", "onDelete": on_delete})
    assert quick("run", "manifests").returncode == 0
    jobs = quick.runs / "volumes" / "tuning" / "tunegate" / "jobs"
    (earlier,) = jobs.iterdir()
    assert (earlier / "report.html").exists()
    result = quick("run", "manifests", "--again")
    assert result.returncode == 0, result.stdout
    assert bool([*earlier.iterdir()]) is (on_delete == "Keep")
    (new,) = set(jobs.iterdir()) - {earlier}
    assert (new / "report.html").exists()
    assert quick.status()["phase"] == "Succeeded"


def test_deletion_that_was_interrupted_is_completed_by_the_next_run(quick):
    quick.write(NOWHERE, storage={"persistentVolumeClaim": "tuning", "onDelete": "Delete"})
    assert quick("run", "manifests").returncode == 0
    before = uid(quick)
    file = quick.runs / ".cluster" / "objects" / "FineTuneJob" / "default" / "orders.yaml"
    job = yaml.safe_load(file.read_text())
    job["metadata"]["deletionTimestamp"] = job["metadata"]["creationTimestamp"]
    file.write_text(yaml.safe_dump(job))
    (earlier,) = (quick.runs / "volumes" / "tuning" / "tunegate" / "jobs").iterdir()
    result = quick("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert uid(quick) != before
    assert [*earlier.iterdir()] == []


@pytest.mark.parametrize("options", [[], ["--again"]])
def test_job_named_volumes_is_refused(ended, options):
    ended.edit(lambda objects: objects["orders"]["metadata"].update(name="volumes"))
    result = ended("run", "manifests", *options)
    assert result.returncode == 1
    assert "FineTuneJob volumes: no job may have this name" in result.stdout
    assert list((ended.runs / "volumes" / "tuning").iterdir())


def test_manifest_may_name_any_namespace(quick):
    def move(objects: Objects) -> None:
        for obj in objects.values():
            obj["metadata"]["namespace"] = "team"

    quick.write(NOWHERE)
    quick.edit(move)
    result = quick("run", "manifests")
    assert result.returncode == 0, result.stdout
    assert quick.status()["phase"] == "Succeeded"


def test_invalid_object_is_refused_in_one_line_and_changes_nothing(ended):
    ended.edit(lambda objects: objects["rows"]["metadata"].update(annotations={"note": "x" * (1 << 19)}))
    before = uid(ended)
    result = ended("run", "manifests", "--again")
    assert result.returncode == 1
    assert "metadata.annotations are larger than 256 KiB" in result.stdout
    assert "Traceback" not in result.stdout
    assert uid(ended) == before


def test_runs_folder_that_cannot_be_created_is_reported_without_traceback(quick):
    quick.write(NOWHERE)
    (quick.folder / "file").touch()
    result = quick("run", "manifests", "--runs", "file/runs")
    assert result.returncode == 1
    assert "a file in the folder file/runs cannot be used: [Errno 20] Not a directory" in result.stdout
    assert "Traceback" not in result.stdout


def test_damaged_object_file_is_reported_without_traceback(ended):
    path = ended.runs / ".cluster" / "objects" / "EvalGate" / "default" / "golden.yaml"
    path.write_text("{")
    result = ended("run", "manifests")
    assert result.returncode == 1
    assert f"{path} cannot be read" in result.stdout
    assert "Traceback" not in result.stdout
