"""`tunegate run` of a job with two nodes: two processes on this machine train one model."""

import pytest

from support.command import FEW_CHECKPOINTS, manifests

pytestmark = [pytest.mark.model, pytest.mark.slow]


def test_job_on_two_nodes_trains_one_model_in_two_processes(tunegate, tiny_model):
    resources = {"accelerator": "CPU", "cpu": "1", "nodes": 2}
    tunegate.write_all(manifests(tiny_model, resources=resources, **FEW_CHECKPOINTS))
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
