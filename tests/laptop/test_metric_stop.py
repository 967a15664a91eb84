"""A run whose F1 gets worse while its golden cases stay the same is stopped, and continues on request."""

import json
from typing import Any

import pytest

from support.command import DPO_AFTER_SFT, FIRST_ORDER, Command, manifests
from support.report_page import text_of
from tunegate_api.contract.digests import sha256_text

pytestmark = [pytest.mark.model, pytest.mark.slow]
SFT, DPO = DPO_AFTER_SFT["stages"]


def config_map(made: dict[str, dict[str, Any]], name: str, key: str, lines: list[dict[str, Any]]) -> str:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    made[name]["data"] = {key: text}
    return text


def write_labels_that_dpo_swaps(command: Command, model: Any) -> None:
    """Write a job whose rows have the label yes, or seldom no. Its preference pairs teach the model to answer
    no. The golden cases pass with either label."""
    metric = {"name": "f1", "type": "F1", "min": "50%", "checkpoints": {"failAtDrop": "20%"}}
    training = DPO["training"] | {"maxSteps": 40}
    changes = DPO_AFTER_SFT | {"taskMetrics": [metric], "stages": [SFT, DPO | {"training": training}]}
    changes["evaluation"] = {"every": "25%"}
    objects = manifests(model, **changes)
    objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pairs"}})
    made = {each["metadata"]["name"]: each for each in objects}
    rows = [json.loads(line) for line in made["rows"]["data"]["train.jsonl"].splitlines()]
    labelled = [row | {"completion": "yes" if i % 5 else "no"} for i, row in enumerate(rows)]
    config_map(made, "rows", "train.jsonl", labelled)
    pairs = [
        {"prompt": f"order {FIRST_ORDER + i}: mug", "chosen": "no", "rejected": "yes"} for i in range(40)
    ]
    config_map(made, "pairs", "pairs.jsonl", pairs)
    cases = [json.loads(line) for line in made["cases"]["data"]["golden.jsonl"].splitlines()]
    either = [case | {"expect": [{"type": "regex", "value": "^(yes|no)$"}]} for case in cases]
    golden = config_map(made, "cases", "golden.jsonl", either)
    made["golden"]["spec"]["sets"][0]["sha256"] = sha256_text(golden)
    command.write_all(objects)


def test_run_whose_f1_alone_gets_worse_is_stopped_and_continued(tunegate, tiny_model):
    write_labels_that_dpo_swaps(tunegate, tiny_model)
    result = tunegate("run", "manifests")
    assert result.returncode == 3, result.stdout
    status = tunegate.status()
    stop = status["stop"]
    assert (status["phase"], stop["reason"]) == ("Stopped", "TaskMetricRegression")
    assert (stop["stage"], stop["metric"], stop.get("gate")) == ("dpo", "f1", None)
    of_dpo = [c for c in status["checkpoints"] if c["stage"] == "dpo"]
    assert {c["gates"][0]["golden"]["passed"] for c in of_dpo} == {20}
    assert stop["message"] in result.stdout
    assert "regressed: " in result.stdout

    report = text_of((tunegate.runs / "orders" / "report.html").read_text())
    assert f"taskMetrics: {stop['message']}" in report
    assert "The task metric f1 fell below the best so far by its limit or more." in report
    assert f"{stop['regressedCount']} rows regressed: {stop['regressedCases'][0]}" in report

    tunegate("continue", "orders", "--reason", "the answer no is also right")
    result = tunegate("run", "manifests")
    status = tunegate.status()
    assert [d["action"] for d in status["decisions"]] == ["continue"]
    assert max(c["step"] for c in status["checkpoints"] if c["stage"] == "dpo") == 40
    assert status["failure"]["reason"] == "GateFailed", "the final gate requires F1 too"
