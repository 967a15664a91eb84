"""The check golden_prompts refuses golden prompts in training data, and names the case and the line."""

import json
import shutil
from functools import partial
from typing import Any

import pytest

from support.trainer_root import PAIRS_OF_ORDERS, ROWS_OF_ORDERS, TrainerRoot, gate_spec
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.safety_sets import builtin_text
from tunegate_trainer.main import main

INSTRUCTION = "Turn this order into JSON."


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def orders(first: int, count: int = 100) -> list[dict[str, object]]:
    return [{"prompt": f"order {i} mugs", "completion": f"mugs: {i}"} for i in range(first, first + count)]


def case(name: str, **prompt: object) -> dict[str, object]:
    return {"id": name, **prompt, "expect": [{"type": "contains", "value": "mug"}]}


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.fixture
def run_data(tmp_path, tiny_model, monkeypatch):
    """Run the data role on rows, pairs and gates. Return its exit code and the root."""

    def run(
        rows: list[dict[str, object]],
        *,
        gates: dict[str, list[dict[str, object]]],
        pairs: list[dict[str, object]] | None = None,
        required: tuple[str, ...] = (),
        leakage: dict[str, str] | None = None,
        **of_gates: Any,
    ) -> tuple[int, TrainerRoot]:
        shutil.rmtree(tmp_path / "root", ignore_errors=True)
        sources = [ROWS_OF_ORDERS, *([PAIRS_OF_ORDERS] if pairs else [])]
        root = TrainerRoot(
            tmp_path / "root",
            inputs={"orders/train.jsonl": lines(*rows), "orders/pairs.jsonl": lines(*pairs or [])},
            gates={name: gate_spec(cases, **of_gates) for name, cases in gates.items()},
            required_gates=required,
            spec={
                "model": {"uri": f"file://{tiny_model}"},
                "data": {
                    "goal": "StyleOrFormat",
                    "sources": sources,
                    "sizePolicy": "Warn",
                    "heldOut": {"fraction": "20%"},
                    **({"checks": [{"name": "Leakage", **leakage}]} if leakage else {}),
                },
            },
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return main(["data"]), root

    return run


def failure(root: TrainerRoot) -> str:
    found = root.report(Role.DATA).failure
    assert found is not None
    return found.message


def test_golden_prompt_in_training_rows_names_case_and_line(run_data):
    code, root = run_data(
        orders(0), gates={"orders": [case("a", prompt="a"), case("seven", prompt="order 7 mugs")]}
    )
    assert code == ExitCode.BAD_DATA
    assert failure(root) == ("1 row has the prompt of a golden case: line 8 is case seven of EvalGate orders")
    assert root.report(Role.DATA).plan is None
    report = json.loads((root.data / "report.json").read_text())
    assert report["golden_prompts"] == [{"line": 8, "gate": "orders", "case": "seven"}]


@pytest.mark.parametrize("asked", ["  ORDER 7\n mugs", "order \uff17 mugs", "order 7\u00a0mugs"])
def test_golden_prompt_is_found_despite_case_space_and_unicode(run_data, asked):
    code, _ = run_data(orders(0), gates={"orders": [case("seven", prompt=asked)]})
    assert code == ExitCode.BAD_DATA


def test_training_rows_are_compared_with_golden_prompts_of_every_gate(run_data):
    gates = {"orders": [case("a", prompt="a")], "safety": [case("nine", prompt="order 9 mugs")]}
    _, root = run_data(orders(0), gates=gates)
    assert "line 10 is case nine of EvalGate safety" in failure(root)


def test_golden_prompt_in_preference_pairs_is_refused(run_data):
    pairs = [{"prompt": f"pair {i}", "chosen": "yes", "rejected": "no"} for i in range(40)]
    code, root = run_data(orders(0), gates={"orders": [case("three", prompt="pair 3")]}, pairs=pairs)
    assert code == ExitCode.BAD_DATA
    assert "line 4 of preference is case three of EvalGate orders" in failure(root)


def test_golden_prompt_answered_within_a_training_chat_is_refused(run_data):
    chat = [
        turn("system", "be brief"),
        turn("user", "two mugs"),
        turn("assistant", "mugs: 2"),
        turn("user", "and a lamp"),
        turn("assistant", "lamps: 1"),
    ]
    rows = [{"messages": [turn("user", f"order {i}"), turn("assistant", "ok")]} for i in range(100)]
    asked = [turn("system", "be brief"), turn("user", "two mugs")]
    _, root = run_data([*rows, {"messages": chat}], gates={"orders": [case("two", messages=asked)]})
    assert "line 101 is case two of EvalGate orders" in failure(root)


def test_golden_prompt_may_share_its_system_turn_with_training_rows(run_data):
    rows = [
        {"messages": [turn("system", INSTRUCTION), turn("user", f"{i} mugs"), turn("assistant", "ok")]}
        for i in range(100)
    ]
    asked = [turn("system", INSTRUCTION), turn("user", "100 mugs")]
    code, _ = run_data(rows, gates={"orders": [case("new", messages=asked)]})
    assert code == ExitCode.OK


def test_message_names_ten_golden_prompts_and_the_report_names_all(run_data):
    cases = [case(f"case-{i}", prompt=f"order {i} mugs") for i in range(12)]
    _, root = run_data(orders(0), gates={"orders": cases})
    assert failure(root).startswith("12 rows have the prompt of a golden case: line 1 is case case-0 ")
    assert failure(root).endswith("; and 2 more")
    assert len(json.loads((root.data / "report.json").read_text())["golden_prompts"]) == 12


@pytest.mark.parametrize("leakage", [{"policy": "Off"}, {"policy": "Warn"}, {"max": "100%"}])
def test_golden_cases_of_required_gates_are_always_refused(run_data, leakage):
    passage = "the parcel arrived on monday with a broken lid and nobody answers my calls about it"
    gates = {
        "orders": [case("own", prompt="order 7 mugs")],
        "policy": [case("nine", prompt="order 9 mugs"), case("long", prompt=passage)],
    }
    rows = [*orders(0), {"prompt": f"Please translate: {passage}", "completion": "yes"}]
    code, root = run_data(rows, gates=gates, required=("policy",), leakage=leakage)
    assert code == ExitCode.BAD_DATA
    assert "1 row has the prompt of a golden case: line 10 is case nine of EvalGate policy" in (failure(root))
    assert "of case long of EvalGate policy" in failure(root)
    assert "EvalGate orders" not in failure(root)
    code, _ = run_data(rows, gates=gates, leakage=leakage)
    assert code == ExitCode.OK


def test_report_lists_golden_cases_of_required_and_other_gates(run_data):
    gates = {
        "orders": [case("own", prompt="order 7 mugs")],
        "policy": [case("nine", prompt="order 9 mugs")],
    }
    _, root = run_data(orders(0), gates=gates, required=("policy",), leakage={"policy": "Warn"})
    report = json.loads((root.data / "report.json").read_text())
    assert [(one["line"], one["gate"]) for one in report["golden_prompts"]] == [(8, "orders"), (10, "policy")]


@pytest.mark.parametrize("leakage", [None, {"policy": "Off"}])
def test_required_gates_safety_set_must_not_be_trained_on(run_data, leakage):
    cases = parse_cases(builtin_text("refusals-v1"), SafetyCase)
    asked = cases[0].prompt
    rows = [*orders(0), {"prompt": asked, "completion": "No."}]
    run = partial(run_data, rows, gates={"policy": [case("a", prompt="a")]}, leakage=leakage)
    code, root = run(
        required=("policy",),
        safety={"name": "safety", "kind": "Safety", "source": {"builtin": "refusals-v1"}},
    )
    assert code == ExitCode.BAD_DATA
    assert f"line 101 is safety case {cases[0].id} of EvalGate policy" in failure(root)
    code, _ = run(safety={"name": "safety", "kind": "Safety", "source": {"builtin": "refusals-v1"}})
    assert code == (ExitCode.OK if leakage else ExitCode.BAD_DATA)
