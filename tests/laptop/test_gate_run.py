"""``tunegate gate run`` judges a model by gates, without a job."""

import json
import shutil
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from support.chat_server import ChatServerStub
from support.command import Command
from tunegate_client.cli.gate_report import ModelResult

pytestmark = pytest.mark.model


@pytest.fixture
def version(finished: Command) -> Path:
    """The published version of a run that passed: an adapter with its evidence."""
    return (finished.runs / "volumes" / "models" / "orders" / "latest").resolve()


@pytest.fixture
def gate_run(tunegate: Command, finished: Command) -> Any:
    """Run the command with the manifests of that run, in another folder. It also writes ``out.xml``."""
    shutil.copytree(finished.folder / "manifests", tunegate.folder / "manifests")

    def run(model: Path, *options: str) -> CompletedProcess[str]:
        return tunegate("gate", "run", "manifests", "--model", str(model), "--junit", "out.xml", *options)

    return run


def suite(command: Command) -> ET.Element:
    """Return the only test suite in the JUnit file."""
    (found,) = ET.parse(command.folder / "out.xml").getroot()  # noqa: S314 - our own output
    return found


def properties(found: ET.Element) -> dict[str, str]:
    return {one.attrib["name"]: one.attrib["value"] for one in found.iter("property")}


def test_published_adapter_passes_its_gate_again(
    tunegate: Command, finished: Command, gate_run: Any, version: Path, tiny_model: Path
) -> None:
    result = gate_run(version, "--base", str(tiny_model), "--published", str(version.parent))
    assert result.returncode == 0, result.stdout
    assert "✓ minPassRate: golden 20/20 = 1.00, required 0.80" in result.stdout
    assert "✓ BaseModel: golden 20/20, BaseModel 0/20: +100.0 points, limit -5.0" in result.stdout
    assert f"✓ LastPublished: golden 20/20, LastPublished ({version.name}) 20/20: +0.0" in result.stdout
    found = suite(tunegate)
    assert {found.attrib[kind] for kind in ("failures", "errors", "skipped")} == {"0"}
    assert properties(found)["modelDigest"] == finished.status()["final"]["modelDigest"]


def test_model_that_fails_is_named_with_its_cases(tunegate: Command, gate_run: Any, tiny_model: Path) -> None:
    result = gate_run(tiny_model, "--base", str(tiny_model))
    assert result.returncode == 1, result.stdout
    assert "✗ minPassRate: golden 0/20 = 0.00, required 0.80" in result.stdout
    failed = {case.attrib["name"]: case.find("failure") for case in suite(tunegate).iter("testcase")}
    assert failed["minPassRate"] is not None
    case = failed["case-7"]
    assert case is not None
    assert 'prompt: golden order 7 lamp\nexpected: [{"type": "equals", "value": "yes"}]\n' in str(case.text)
    assert not tunegate.runs.exists(), "local models are used in place"


def test_adapter_without_a_tokenizer_uses_that_of_its_base_model(
    gate_run: Any, version: Path, tiny_model: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(version / name, adapter)
    result = gate_run(adapter, "--base", str(tiny_model))
    assert result.returncode == 0, result.stdout
    assert "(adapter, sha256 " in result.stdout
    assert "- LastPublished: skipped" in result.stdout


def test_result_without_a_base_model_can_be_read_as_json(
    tunegate: Command, gate_run: Any, tiny_model: Path
) -> None:
    tunegate.edit(lambda found: found["golden"]["spec"].update(compareWith=[{"type": "LastPublished"}]))
    result = gate_run(tiny_model, "-o", "json")
    assert result.returncode == 1, result.stdout
    found = ModelResult.model_validate_json(result.stdout[result.stdout.index("{") :])
    assert (found.base, found.gates[0].passed, len(found.gates[0].cases)) == (None, 0, 20)
    assert found.notes == ["the model is not compared with a base model"]


def damaged(version: Path, folder: Path) -> Path:
    copy = Path(shutil.copytree(version, folder / version.name))
    config = copy / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 1}))
    return copy


def other_tokens(model: Path, folder: Path) -> Path:
    """Return a copy of a model in which two tokens have each other's ids."""
    copy = Path(shutil.copytree(model, folder / "tokens"))
    path = copy / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer))
    return copy


def test_models_that_cannot_be_measured_end_with_exit_code_5(
    tunegate: Command, gate_run: Any, version: Path, tiny_model: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    (other / "extra.txt").write_text("another digest")
    empty = tmp_path / "empty"
    empty.mkdir()
    for model, base, error in (
        (
            damaged(version, tmp_path),
            tiny_model,
            "was changed after it was written: adapter_config.json does",
        ),
        (version, other, "but the adapter was trained on the base model"),
        (empty, tiny_model, "--model: file://"),
        (tiny_model, other_tokens(tiny_model, tmp_path), "have tokenizers with different tokens"),
    ):
        result = gate_run(model, "--base", str(base))
        assert result.returncode == 5, result.stdout
        assert error in result.stdout
        assert len(result.stdout.strip().splitlines()) == 1
        (message,) = (found.attrib["message"] for found in suite(tunegate).iter("error"))
        assert error in message


def test_published_version_is_compared_with_a_pinned_version(
    after_run: Command, version: Path, tiny_model: Path
) -> None:
    digest = after_run.status()["final"]["modelDigest"]
    pinned = {"uri": f"pvc://models/orders/{version.name}", "digest": digest}
    entry = {"type": "Version", "version": pinned}
    after_run.edit(lambda found: found["golden"]["spec"].update(compareWith=[{"type": "BaseModel"}, entry]))
    result = after_run("gate", "run", "manifests", "--model", pinned["uri"], "--base", str(tiny_model))
    assert result.returncode == 0, result.stdout
    assert f"✓ Version: golden 20/20, Version ({version.name}) 20/20: +0.0 points" in result.stdout


def test_live_model_is_a_baseline_but_unreachable_an_error(
    tunegate: Command, gate_run: Any, version: Path, tiny_model: Path
) -> None:
    with ChatServerStub() as server:
        entry = {"type": "Endpoint", "endpoint": server.endpoint}
        tunegate.edit(
            lambda found: found["golden"]["spec"].update(compareWith=[{"type": "BaseModel"}, entry])
        )
        result = gate_run(version, "--base", str(tiny_model))
        assert result.returncode == 0, result.stdout
        assert "✓ Endpoint: golden 20/20, Endpoint (live) 20/20: +0.0 points" in result.stdout
        server.key = "another key"
        result = gate_run(version, "--base", str(tiny_model))
    assert result.returncode == 5, result.stdout
    assert "! Endpoint: Cannot compare with Endpoint (live)" in result.stdout
    assert suite(tunegate).attrib["errors"] == "1"
