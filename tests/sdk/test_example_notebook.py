"""The notebook in examples/notebook runs from its first to its last cell."""

import json
from pathlib import Path
from shutil import copytree

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"


def execute(folder: Path, seconds: int, replaced: tuple[str, str] = ("", "")) -> list[str]:
    """Execute a copy of the notebook, with a part of its code ``replaced``. Return the printed text of its
    last cell, and its HTML outputs."""
    for name in ("notebook", "classification"):
        copytree(EXAMPLES / name, folder / name, ignore=lambda *_: {"runs", "__pycache__"})
    notebook = nbformat.read(folder / "notebook" / "classify.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace(*replaced)
    resources = {"metadata": {"path": str(folder / "notebook")}}
    NotebookClient(notebook, timeout=seconds, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    return [notebook.cells[-1].outputs[0].text, *shown]


def test_notebook_runs_with_a_stand_in_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: dict[str, str]
) -> None:
    for name, value in stand_in.items():
        monkeypatch.setenv(name, value)
    # The stand-in reports one metric alone.
    replaced = ('name="f1", type="F1", average="Macro"', 'name="exact_match", type="ExactMatch"')
    last, progress, result = execute(tmp_path, 120, replaced)
    assert "published: pvc://models/error-classifier" in last
    assert "Succeeded" in progress
    assert "runs/error-classifier/report.html" in result


@pytest.mark.story
@pytest.mark.timeout(2400)
def test_notebook_trains_and_publishes_a_classifier(tmp_path: Path) -> None:
    last, *_ = execute(tmp_path, 2400)
    assert "f1" in last
    (version,) = (tmp_path / "notebook/runs/volumes/models/error-classifier").glob("error-classifier-*")
    assert json.loads((version / "evidence" / "verdict.json").read_text())
