"""``tunegate gate error-rate`` measures how often the gates of a finished run are wrong."""

import json
from pathlib import Path

import pytest

from support.command import Command
from tunegate_api.contract.results import GateErrorRates

pytestmark = pytest.mark.model


def files(folder: Path) -> dict[str, bytes]:
    """Return the files of a run without those of error rates."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "error-rate" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_gates_of_a_finished_run_are_measured_without_changing_it(after_run: Command) -> None:
    before = files(after_run.runs)
    result = after_run("gate", "error-rate", "orders", "--repeats", "2")
    assert result.returncode == 0, result.stdout
    assert "gate golden, 20 golden cases\n" in result.stdout
    assert "  2 repeats: no case changes its outcome\n" in result.stdout
    assert "  shuffled answers: 20/20, +0.0 points from 20/20: not found\n" in result.stdout
    assert "  strength 0.5: " in result.stdout
    assert "  as good as this model: 0.0% of models do not pass (at most " in result.stdout
    assert "  4 evaluations in 0." in result.stdout
    assert files(after_run.runs) == before


def test_measured_outcomes_can_be_read_as_json(after_run: Command) -> None:
    result = after_run("gate", "error-rate", "orders", "--repeats", "1", "--gate", "golden", "-o", "json")
    assert result.returncode == 0, result.stdout
    found = GateErrorRates.model_validate_json(result.stdout[result.stdout.index("{") :])
    assert found.outcomes["golden"].repeats == [found.outcomes["golden"].reference]
    assert len(found.sets["golden"].ids) == 20


def test_gate_of_a_changed_model_is_not_measured(after_run: Command) -> None:
    (artifact,) = (after_run.runs / "volumes" / "tuning").glob("tunegate/jobs/*/model")
    (artifact / "adapter_config.json").write_text(
        json.dumps(json.loads((artifact / "adapter_config.json").read_text()) | {"r": 8, "lora_alpha": 1})
    )
    result = after_run("gate", "error-rate", "orders")
    assert result.returncode == 1, result.stdout
    assert "gate golden was not measured: the artifact was changed after it was built" in result.stdout


def test_gate_or_job_that_does_not_exist_is_named(after_run: Command) -> None:
    result = after_run("gate", "error-rate", "orders", "--gate", "other")
    assert "FineTuneJob orders has no gate other, only golden" in result.stdout
    result = after_run("gate", "error-rate", "missing")
    assert "FineTuneJob missing" in result.stdout
    assert "for a job on a cluster, add --namespace or --context" in result.stdout


def test_error_rate_of_a_cluster_job_is_refused(tunegate: Command) -> None:
    result = tunegate("gate", "error-rate", "orders", "--namespace", "team-a")
    assert result.returncode == 1
    assert "on a cluster, set spec.errorRate of the EvalGate" in result.stdout


def test_job_without_a_judged_model_says_what_to_do(after_run: Command) -> None:
    for path in (after_run.runs / ".cluster" / "objects" / "Pod").rglob("*gate*"):
        path.unlink()
    result = after_run("gate", "error-rate", "orders")
    assert "FineTuneJob orders has no judged model in" in result.stdout
    assert "run it until its final gate has ended" in result.stdout
