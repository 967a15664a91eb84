"""A classifier passes its gate although its base model rambles, so that all outputs of the base model are
truncated."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import make_config_map
from support.command import Command, manifests
from support.tiny_model import save_rambling_model
from tunegate_api.contract.digests import sha256_text

LABELS = ("mug", "lamp", "chair", "Paris", "Berlin", "city")
TRAINING = {"maxSteps": 180, "learningRate": "0.01", "batchSize": 8, "maxLength": 128, "seed": 1}
ROWS = 300


@pytest.fixture
def rambling_model(tmp_path: Path) -> Path:
    folder = tmp_path / "rambling"
    save_rambling_model(folder)
    return folder


def label(number: int) -> str:
    return LABELS[number % len(LABELS)]


def prompt(number: int) -> str:
    return f"{number}: " + " ".join([label(number)] * 8)


def by_hand(model: Path) -> list[dict[str, Any]]:
    """Return manifests with 60 golden cases that expect equal texts of at most eight tokens."""
    rows = [{"prompt": prompt(i), "completion": label(i)} for i in range(ROWS)]
    cases = [
        {"id": f"case-{i}", "prompt": prompt(i), "expect": [{"type": "equals", "value": label(i)}]}
        for i in range(1000, 1060)
    ]
    train, golden = ("".join(json.dumps(each) + "\n" for each in lines) for lines in (rows, cases))
    gate, job = manifests(model)[2:]
    gate["spec"]["sets"][0]["sha256"] = sha256_text(golden)
    gate["spec"]["generation"] = {"maxNewTokens": 8}
    job["spec"]["stages"][0]["training"] = TRAINING
    job["spec"]["evaluation"] = {"every": "50%"}
    return [
        make_config_map("rows", train__jsonl=train),
        make_config_map("cases", golden__jsonl=golden),
        gate,
        job,
    ]


def check_passed(command: Command, name: str) -> None:
    """Check that the job published a model, although every output of its base model was truncated."""
    status = command.status(name)
    assert (status["phase"], status["final"]["verdict"]) == ("Succeeded", "Passed")
    (start,) = status["start"]
    (gate,) = start["gates"]
    assert (gate["golden"]["passed"], gate["golden"].get("truncated")) == (0, None)
    (path,) = command.runs.glob("volumes/tuning/tunegate/jobs/*/evals/sft/step-000000/golden-*.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {line["truncated"] for line in lines} == {True}
    assert {line["outcomes"]["golden"] for line in lines} == {"f"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("reasons", [False, True], ids=["plain", "reasoning template"])
def test_classifier_passes_although_its_base_model_rambles(tunegate, tmp_path, reasons):
    save_rambling_model(tmp_path / "model", reasons=reasons)
    result = tunegate("run", tunegate.write_all(by_hand(tmp_path / "model")), seconds=540)
    assert result.returncode == 0, result.stdout
    check_passed(tunegate, "orders")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_init_label_project_passes_with_a_rambling_base_model(tunegate, rambling_model):
    with (tunegate.folder / "tickets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "kind"), *((prompt(i), label(i)) for i in range(ROWS))])
    result = tunegate(
        *("init", "--data", "tickets.csv", "--model", f"file://{rambling_model}"),
        *("--goal", "StyleOrFormat", "--column", "prompt=text", "--column", "completion=kind"),
    )
    assert result.returncode == 0, result.stdout
    fill_in(tunegate.folder / "tickets")
    result = tunegate("run", "tickets", seconds=540)
    assert result.returncode == 0, result.stdout
    check_passed(tunegate, "tickets")


def fill_in(project: Path) -> None:
    """Fill in the golden cases of a project, and set what a tiny model on a CPU needs."""
    gate = yaml.safe_load((project / "evalgate.yaml").read_text(encoding="utf-8"))
    assert gate["spec"]["generation"] == {"maxNewTokens": 16}
    for i, case in enumerate(gate["spec"]["sets"][0]["source"]["inline"]):
        del case["todo"]
        case |= {"prompt": prompt(1000 + i), "expect": [{"type": "label", "value": label(1000 + i)}]}
    (project / "evalgate.yaml").write_text(yaml.safe_dump(gate), encoding="utf-8")
    job = yaml.safe_load((project / "finetunejob.yaml").read_text(encoding="utf-8"))
    job["spec"]["stages"][0]["training"] = TRAINING
    job["spec"]["resources"] = {"accelerator": "CPU"}
    job["spec"]["data"]["sizePolicy"] = "Warn"
    job["spec"]["evaluation"] = {"every": "50%"}
    (project / "finetunejob.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
