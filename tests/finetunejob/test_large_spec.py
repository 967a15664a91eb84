"""A spec that is too large is refused. A running job whose spec becomes too large is held."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from support.builders import make_gate, make_job
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_client.cli.main import main
from tunegate_operator.engine.cluster import Key

FREE_FORM = {"affinity": {"nodeAffinity": {"x": "y" * 1_200_000}}}
FIRST_PROBLEM = "spec: larger than 64 KiB as JSON, or nested in more than 300 levels: shorten podTemplate"


def test_job_with_a_large_spec_fails_with_invalid_spec() -> None:
    world = World()
    world.apply_all(make_job().with_spec(podTemplate=FREE_FORM).obj())
    world.settle()
    status = world.status()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.INVALID_SPEC
    assert status.failure.message.startswith(FIRST_PROBLEM)
    assert world.cluster.as_user.list_objects("Job") == []


def test_validate_and_status_show_the_same_large_spec_error(tmp_path: Path) -> None:
    world, manifest = World(), make_job().with_spec(podTemplate=FREE_FORM).obj()
    world.apply_all(manifest)
    world.settle()
    failure = world.status().failure
    assert failure is not None
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest))
    result = CliRunner().invoke(main, ["validate", str(tmp_path)])
    assert result.exit_code == 2
    assert failure.message in result.stderr


@pytest.mark.parametrize("role", ["data", "train"])
def test_running_job_whose_spec_becomes_large_is_held(role: str) -> None:
    world = World()
    world.apply_all()
    world.until_job(role)
    jobs, spec = world.cluster.as_user.list_objects("Job"), world.job()["spec"]
    world.edit(podTemplate=FREE_FORM)
    world.settle()
    stalled = world.condition("Stalled")
    assert stalled.reason == Reason.SPEC_NOT_UNDERSTOOD
    assert FIRST_PROBLEM in stalled.message
    assert world.cluster.as_user.list_objects("Job") == jobs
    world.cluster.as_user.replace(world.job() | {"spec": spec})
    assert world.run().phase is Phase.SUCCEEDED


def test_gate_with_a_large_golden_set_is_not_ready() -> None:
    world = World()
    gate = make_gate().obj()
    gate["spec"]["sets"][0] = {
        "name": "golden",
        "source": {"inline": [{"id": "one", "prompt": "x" * 1_200_000}]},
    }
    world.apply_all(gate=gate)
    world.settle()
    found = world.cluster.as_user.get(Key("EvalGate", "default", "golden"))
    assert found is not None
    ready = next(c for c in found["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert ready["message"].startswith("spec: larger than 256 KiB as JSON, or nested in more than 300 levels")
    assert world.status().phase is Phase.PENDING
