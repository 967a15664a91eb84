"""A gate in a dry run does not end training, whatever is wrong with its golden set."""

import json

import pytest

from support.trainer_root import STAGE, gate_spec, golden_cases
from tunegate_api.contract.process import Outcome
from tunegate_trainer.roles import train as train_role


@pytest.mark.parametrize("rehearsal", ["a-rehearsal", "z-rehearsal"])
def test_changed_dry_run_golden_set_does_not_end_training(make_root, rehearsal):
    orders = gate_spec(golden_cases(10))
    orders["sets"][0]["sealed"] = "30%"
    gates = {"orders": orders, rehearsal: gate_spec(golden_cases(5), enforcement="DryRun")}
    root = make_root(checkpoint_steps=(3,), gates=dict(sorted(gates.items())))
    path = root.path / "request" / "request.json"
    request = json.loads(path.read_text())
    (dry,) = (gate for gate in request["gates"] if gate["name"] == rehearsal)
    dry["goldenSha256"] = "0" * 64
    path.write_text(json.dumps(request))

    assert train_role.run(root.context()) is Outcome.COMPLETED
    outcomes = root.evaluation(3).outcomes
    assert f"golden/{rehearsal}" not in outcomes
    assert outcomes["golden/orders"].count("s") == 3
    lines = (root.workspace / root.paths.evaluation(STAGE, 3) / "golden-orders.jsonl").read_text()
    assert sum(not json.loads(line)["prompt"] for line in lines.splitlines()) == 3
