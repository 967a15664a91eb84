"""Faults of a gate in a dry run are warnings: they block no job."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chat_server import failing
from support.gate_servers import judge_cases, judge_spec
from support.guard_server import GuardServerStub
from support.judge_server import JUDGE_KEY, JudgeServerStub, calibration_rows, score
from support.trainer_root import TrainerRoot, gate_spec, golden_cases, orders_spec
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_trainer.main import main
from tunegate_trainer.process.files import write_model
from tunegate_trainer.roles.train import evaluation_sets
from tunegate_trainer.tokens.chat import load_tokenizer

pytestmark = pytest.mark.usefixtures("asks_again_at_once")

MakeJob = Callable[..., TrainerRoot]
ASIDE = "EvalGate rehearsal is in a dry run, so the job continues: "


@pytest.fixture
def make_job(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """Make a job with an enforced gate and the gate ``rehearsal``, before its data role has run."""

    def make(rehearsal: dict[str, Any], *, dry: bool = True) -> TrainerRoot:
        rows = [{"prompt": f"order {n} mugs", "completion": f"mugs: {n}"} for n in range(40)]
        texts = {"orders/train.jsonl": rows, "scored/scored.jsonl": calibration_rows()}
        root = TrainerRoot(
            tmp_path / "root",
            gates={
                "enforced": gate_spec(golden_cases()),
                "rehearsal": rehearsal | {"enforcement": "DryRun" if dry else "Enforce"},
            },
            inputs={name: "".join(json.dumps(row) + "\n" for row in text) for name, text in texts.items()},
            spec=orders_spec(tiny_model, {}),
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make


def warnings_of(root: TrainerRoot) -> list[str]:
    """Run the data role, which must succeed, and return its warnings."""
    assert main(["data"]) == ExitCode.OK, root.report(Role.DATA).failure
    plan = root.report(Role.DATA).plan
    assert isinstance(plan, Plan)
    return plan.data.warnings


def expecting(prompt: str, expectation: dict[str, Any]) -> dict[str, Any]:
    return gate_spec([{"id": "one", "prompt": prompt, "expect": [expectation]}])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServerStub]:
    monkeypatch.setenv("OPENAI_API_KEY", JUDGE_KEY)
    with JudgeServerStub() as stub:
        yield stub


def test_unreachable_judge_is_a_warning(make_job, server):
    server.reply = lambda *_: failing(503, "no replica is ready")
    (warning, *_) = warnings_of(make_job(gate_spec(judge_cases(), graders=[judge_spec(server)])))
    assert warning.startswith(f"{ASIDE}EvalGate rehearsal: spec.graders[judge]")
    assert "no replica is ready" in warning


def test_inconclusive_judge_is_a_warning(make_job, server):
    server.reply = lambda *_: score(True)
    warnings = warnings_of(make_job(gate_spec(judge_cases(), graders=[judge_spec(server)])))
    assert any("so cases that it must score are errors" in warning for warning in warnings)


@pytest.mark.parametrize("fault", ["down", "confused"])
def test_guardrail_that_does_not_count_is_a_warning(make_job, fault):
    with GuardServerStub() as guardrail:
        works = guardrail.reply
        reply = failing(503, "no replica is ready") if fault == "down" else works("a mug")
        guardrail.reply = lambda _: reply
        spec = expecting("order", {"type": "guardrail"}) | {"graders": [guardrail.spec]}
        assert any("so cases that it must rate are errors" in text for text in warnings_of(make_job(spec)))


def test_missing_key_of_the_endpoint_is_a_warning(make_job):
    endpoint = {"url": "https://models/v1", "model": "live", "secretName": "absent"}
    (warning, *_) = warnings_of(make_job(gate_spec(compareWith=[{"type": "Endpoint", "endpoint": endpoint}])))
    assert warning.startswith(f"{ASIDE}there is no Secret absent")


@pytest.mark.parametrize("dry", [True, False])
def test_trained_golden_prompt_blocks_only_an_enforced_gate(make_job, dry):
    root = make_job(expecting("order 7 mugs", {"type": "contains", "value": "mugs"}), dry=dry)
    assert main(["data"]) == (ExitCode.OK if dry else ExitCode.BAD_DATA)
    found = {one.name: one.result for one in root.report(Role.DATA).data_checks}
    assert found["golden_prompts"] == ("Warned" if dry else "Refused")


def test_enforced_gates_trained_prompt_is_refused_beside_a_dry_run(make_job):
    spec = expecting("order 7 mugs", {"type": "contains", "value": "mugs"})
    root = make_job(gate_spec())
    root.gates["enforced"] = spec
    root.write_request()
    assert main(["data"]) == ExitCode.BAD_DATA


def test_invalid_golden_case_is_a_warning(make_job):
    root = make_job(expecting("order a lamp", {"type": "json_schema", "schema": {"type": "lamp"}}))
    (warning, *_) = warnings_of(root)
    assert warning.startswith(f"{ASIDE}EvalGate rehearsal: golden set: line 1")


def test_changed_golden_set_is_a_warning(make_job):
    root = make_job(gate_spec())
    request = root.context(Role.DATA).request
    gates = [g.model_copy(update={"golden_sha256": "0" * 64}) if g.spec.dry_run else g for g in request.gates]
    write_model(root.path / "request" / "request.json", request.model_copy(update={"gates": gates}))
    (warning, *_) = warnings_of(root)
    assert warning.startswith(f"{ASIDE}EvalGate rehearsal: the golden set has sha256")


def test_training_leaves_out_changed_golden_set_of_dry_run(make_root):
    sealing = gate_spec(golden_cases(10))
    sealing["sets"][0]["sealed"] = "30%"
    root = make_root(gates={"rehearsal": gate_spec(enforcement="DryRun"), "enforced": sealing})
    path = root.path / "request" / "request.json"
    request = json.loads(path.read_text())
    request["gates"][0]["goldenSha256"] = "0" * 64
    path.write_text(json.dumps(request))
    context = root.context()
    starting, sets = evaluation_sets(context, context.plan.stages[0], load_tokenizer(root.base_model))
    assert [each.file for each in sets if "golden" in each.names] == ["golden-enforced.jsonl"]
    assert sum(case.is_sealed for case in sets[0].cases) == 3
    assert [each.file for each in starting] == [each.file for each in sets]
    assert context.dry_run_faults["rehearsal"].startswith(f"{ASIDE}EvalGate rehearsal: the golden set has")


@pytest.mark.parametrize("field", ["judge", "guardrail"])
def test_golden_case_without_a_server_is_a_warning(make_job, field):
    """The operator cannot read a golden set that is at an address, so the data role finds this fault."""
    (warning, *_) = warnings_of(make_job(expecting("order", {"type": field})))
    assert warning.startswith(f"{ASIDE}EvalGate rehearsal: golden cases have the expectation {field}")
