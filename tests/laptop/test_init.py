"""``tunegate init`` writes manifests from data: what it recognizes, guesses, and refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.command import Command

NAMES = ("finetunejob.yaml", "evalgate.yaml")


def init(tunegate: Command, data: Path, *options: str, goal: str = "StyleOrFormat") -> tuple[int, str]:
    result = tunegate("init", "--data", data.name, "--model", "package://tiny", "--goal", goal, *options)
    return result.returncode, result.stdout


def write(tunegate: Command, name: str, rows: list[dict[str, Any]]) -> Path:
    path = tunegate.folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spec_of(folder: Path, name: str = "finetunejob.yaml") -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((folder / name).read_text())["spec"]
    return spec


def test_init_writes_two_manifests_whose_cases_must_be_filled_in(tunegate):
    rows = [{"question": f"order {i} mugs", "answer": json.dumps({"n": i})} for i in range(300)]
    data = write(tunegate, "My_orders.v2.jsonl", rows)
    code, output = init(tunegate, data)
    assert code == 0, output
    assert "prompt: question, completion: answer (guessed" in output
    folder = tunegate.folder / "my-orders"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    spec = spec_of(folder)
    assert spec["data"]["sources"][0]["columns"] == {"prompt": "question", "completion": "answer"}
    assert spec["taskMetrics"][0]["schema"]["inline"]["properties"] == {"n": {"type": "integer"}}
    gate = (folder / "evalgate.yaml").read_text()
    assert not any(row["question"] in gate for row in rows)
    assert not tunegate.runs.exists()

    for command in ("validate", "plan", "run"):
        result = tunegate(command, "my-orders")
        assert result.returncode == 2, result.stdout
        assert "case typical-01 is a placeholder: write a typical input, and the JSON" in result.stdout
        assert "40 mistakes" in result.stdout


def test_next_commands_quote_the_folder(tunegate):
    rows = [{"question": f"order {i} mugs", "answer": f"{i} mugs"} for i in range(300)]
    code, output = init(tunegate, write(tunegate, "orders.jsonl", rows), "--output", "my orders")
    assert code == 0, output
    assert "tunegate run 'my orders' " in output


@pytest.mark.parametrize("parent", ["my data ü", "50%20off"])
def test_first_commands_work_below_a_folder_of_any_name(tunegate, tiny_model, parent):
    folder = tunegate.folder / parent
    (folder / "new tickets").mkdir(parents=True)
    here = replace(tunegate, folder=folder)
    rows = [{"prompt": f"order {i} mugs", "completion": f"{i} mugs"} for i in range(300)]
    write(here, "new tickets/Größe 5%.jsonl", rows)
    (folder / "base model").symlink_to(tiny_model)
    data = "new tickets/Größe 5%.jsonl"
    model = ("--model", "base model", "--goal", "StyleOrFormat", "--accelerator", "CPU")
    assert here("check", data, "--goal", "StyleOrFormat").returncode == 0
    assert here("init", "--data", data, *model, "--output", "orders").returncode == 0
    gate = folder / "orders" / "evalgate.yaml"
    gate.write_text(filled_in(gate.read_text()))
    validated = here("validate", "orders")
    assert validated.returncode == 0, validated.stdout
    planned = here("plan", "orders")
    assert planned.returncode == 0, planned.stdout
    assert " train · " in planned.stdout


def filled_in(gate: str) -> str:
    """Return the manifest of a gate with an answer in each case."""
    spec = yaml.safe_load(gate)
    for i, case in enumerate(spec["spec"]["sets"][0]["source"]["inline"]):
        del case["todo"]
        case.update(prompt=f"golden order {i}", expect=[{"type": "equals", "value": f"{i} mugs"}])
    return yaml.safe_dump(spec)


def test_init_of_chats_writes_the_system_prompt_into_each_case(tunegate):
    def chat(i: int) -> list[dict[str, str]]:
        return [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": f"customer {i} writes"},
            {"role": "assistant", "content": f"Dear customer {i},\nthank you."},
        ]

    data = write(tunegate, "chats.jsonl", [{"messages": chat(i)} for i in range(250)])
    code, output = init(tunegate, data, "--output", "a/b", "--name", "letters")
    assert code == 0, output
    folder = tunegate.folder / "a" / "b"
    spec = spec_of(folder)
    assert spec["data"]["sources"][0] == {"name": "letters", "uri": "file://../../chats.jsonl"}
    assert [metric["name"] for metric in spec["taskMetrics"]] == ["rouge_l"]
    cases = spec_of(folder, "evalgate.yaml")["sets"][0]["source"]["inline"]
    assert {case["messages"][0]["content"] for case in cases} == {"Be kind."}


def test_init_writes_manifests_for_data_a_job_would_refuse(tunegate):
    data = write(tunegate, "few.jsonl", [{"prompt": f"order {i}", "completion": "yes"} for i in range(50)])
    code, output = init(tunegate, data)
    assert code == 0, output
    assert "a job would refuse this data" in output
    assert "columns" not in spec_of(tunegate.folder / "few")["data"]["sources"][0]
    (tunegate.folder / "few" / "evalgate.yaml").unlink()
    assert init(tunegate, data, "--force")[0] == 0
    assert (tunegate.folder / "few" / "evalgate.yaml").exists()


def test_first_row_with_an_empty_answer_changes_no_columns(tunegate):
    rows = [{"instruction": "a", "input": "b", "output": "yes" if i else "", "label": "x"} for i in range(3)]
    code, output = init(tunegate, write(tunegate, "alpaca.jsonl", rows), "--force")
    assert code == 0, output
    assert "3 rows, Alpaca" in output
    assert "guessed" not in output


def test_init_without_guessable_columns_asks_and_writes_nothing(tunegate):
    data = write(tunegate, "odd.jsonl", [{"left": f"order {i}", "right": "yes"} for i in range(5)])
    code, output = init(tunegate, data)
    assert code == 1
    assert "--column prompt=FIELD --column completion=FIELD. The first row has: left, right" in output
    assert not (tunegate.folder / "odd").exists()
    code, output = init(tunegate, data, "--column", "prompt=left", "--column", "completion=right")
    assert code == 0, output
    columns = spec_of(tunegate.folder / "odd")["data"]["sources"][0]["columns"]
    assert columns == {"prompt": "left", "completion": "right"}


def test_data_without_a_suffix_needs_another_folder_for_its_manifests(tunegate):
    data = write(tunegate, "orders", [{"prompt": f"order {i}", "completion": "yes"} for i in range(5)])
    code, output = init(tunegate, data)
    assert code == 2
    assert "orders is a file: choose a folder for the manifests with --output" in output
    code, output = init(tunegate, data, "--output", "orders/manifests")
    assert code == 1
    assert "orders/manifests cannot be written: Not a directory; choose another folder" in output
    assert "Traceback" not in output
    assert init(tunegate, data, "--output", "manifests")[0] == 0


@pytest.mark.parametrize("rows", [[], [{"text": "order 1", "label": 1}]], ids=["empty", "no-text"])
def test_init_of_a_file_without_usable_rows_writes_nothing(tunegate, rows):
    code, output = init(tunegate, write(tunegate, "bad.jsonl", rows))
    assert code == 1
    assert "nothing was written: there are no rows that can be used" in output
    assert not (tunegate.folder / "bad").exists()


def test_check_explains_a_golden_set_with_placeholders(tunegate):
    data = write(tunegate, "rows.jsonl", [{"prompt": f"order {i}", "completion": "yes"} for i in range(50)])
    golden = write(tunegate, "golden.jsonl", [{"id": "a", "todo": "a long input"}])
    result = tunegate("check", data.name, "--golden", golden.name)
    assert result.returncode == 1
    assert "case a is a placeholder: write a long input, then remove todo" in result.stdout
