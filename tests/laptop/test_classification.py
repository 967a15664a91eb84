"""The example of classification leads from a CSV file to a published model with a higher F1 score."""

import json
import re
from pathlib import Path

import pytest
import yaml

from support.command import Command
from support.report_page import text_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "classification"
COLUMNS = ("--column", "prompt=text", "--column", "completion=kind")


def write_config_maps(folder: Path) -> None:
    """Write the files in the ConfigMaps of the example."""
    for manifest in ("data.yaml", "golden.yaml"):
        for name, text in yaml.safe_load((EXAMPLE / manifest).read_text(encoding="utf-8"))["data"].items():
            (folder / name).write_text(text, encoding="utf-8")


def test_manifests_of_the_example_have_no_mistakes(tunegate: Command) -> None:
    result = tunegate("validate", str(EXAMPLE))
    assert result.returncode == 0, result.stdout
    assert "no mistakes found" in result.stdout


@pytest.mark.slow
def test_data_of_the_example_passes_all_checks_without_warnings(tunegate: Command) -> None:
    write_config_maps(tunegate.folder)
    result = tunegate(
        *("check", "errors.csv", *COLUMNS, "--goal", "TaskSpecialization", "-o", "json"),
        *("--golden", "golden.jsonl", "--production", "production.csv"),
    )
    assert result.returncode == 0, result.stdout
    found = json.loads(result.stdout)
    assert found["rows"] > 1200
    assert {check["result"] for check in found["results"]} == {"Passed"}


@pytest.mark.story
@pytest.mark.timeout(3000)
def test_published_model_has_a_higher_f1_than_the_base_model(tmp_path: Path) -> None:
    command = Command(tmp_path)
    result = command("run", str(EXAMPLE), seconds=2400)
    assert result.returncode == 0, result.stdout

    status = command.status("error-classifier")
    assert (status["phase"], status["final"]["verdict"]) == ("Succeeded", "Passed")
    published = command.runs / "volumes" / "models" / "error-classifier" / "latest"
    assert (published / "adapter_model.safetensors").exists()
    report = text_of((command.runs / "error-classifier" / "report.html").read_text(encoding="utf-8"))
    value = r"(\d\.\d\d) (\d\.\d\d) to (\d\.\d\d)"
    shown = re.search(rf"f1, test \S+ Passed, required [\d.]+ {value} {value}", report)
    assert shown, report
    base, _, base_high, tuned, tuned_low, _ = map(float, shown.groups())
    assert base <= base_high < tuned_low <= tuned
