"""`tunegate run` with two nodes: two processes of this machine train one model."""

import pytest

from support.command import manifests

pytestmark = pytest.mark.model


def test_two_nodes_are_two_processes_and_one_model(tunegate, tiny_model):
    resources = {"accelerator": "CPU", "cpu": "1", "nodes": 2}
    tunegate.write_all(manifests(tiny_model, resources=resources))
    result = tunegate("run", "manifests")
    assert result.returncode == 0, result.stdout
    status = tunegate.status()
    assert status["final"]["verdict"] == "Passed"
    trained = [
        path.name for path in (tunegate.runs / ".cluster" / "logs").iterdir() if "-train-" in path.name
    ]
    assert len(trained) == 2
    assert tunegate.stage.writers() == 1
    assert list(tunegate.stage.losses()) == list(range(1, 16))
