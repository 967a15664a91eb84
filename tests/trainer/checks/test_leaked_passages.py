"""The check leaked_passages refuses rows that repeat a part of a golden case, but not its template."""

import csv
import json
from dataclasses import replace
from fractions import Fraction
from io import StringIO
from pathlib import Path

import pytest
import yaml

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.safety_sets import builtin_text
from tunegate_trainer.checks import golden_prompts, leaked_passages, share_finding

EXAMPLES = Path(__file__).parents[3] / "examples"
TEXT = "The parcel arrived on Monday with a broken lid and nobody at the shop answers my calls about it"
ANSWER = "We are very sorry about the lid and will send you another parcel on the next working day"


def run(rows, *cases, required=()):
    """Run the check on prompts and completions, and return its findings and those of golden_prompts."""
    lines = [
        json.dumps({"id": f"case-{i}", "expect": [{"type": "equals", "value": "yes"}], **case})
        for i, case in enumerate(cases)
    ]
    golden = {"replies": parse_cases("\n".join(lines), GoldenCase)}
    context = replace(NO_CONTEXT, golden=golden, required_gates=frozenset(required))
    usable = usable_rows([{"prompt": prompt, "completion": answer} for prompt, answer in rows])
    return list(leaked_passages.run(usable, context)), list(golden_prompts.run(usable, context))


def files_of(example, manifest):
    """Return the files in a ConfigMap of an example."""
    return yaml.safe_load((EXAMPLES / example / manifest).read_text(encoding="utf-8"))["data"]


def rows_of(example):
    """Return the training rows of an example, in a JSON Lines or a CSV file."""
    files = files_of(example, "data.yaml")
    if "train.jsonl" in files:
        return [json.loads(line) for line in files["train.jsonl"].splitlines()]
    rows = csv.DictReader(StringIO(files["errors.csv"]))
    return [{"prompt": row["text"], "completion": row["kind"]} for row in rows]


def test_row_with_thirteen_words_of_a_golden_prompt_is_refused():
    passage = " ".join(TEXT.split()[2:15])
    (finding,), _ = run([("other", "row"), (f"I said: {passage}!", "yes")], {"prompt": TEXT})
    assert finding.examples == [
        'line 2 has 13 words "arrived on monday with a broken …" of case case-0 of EvalGate replies'
    ]
    assert (finding.count, finding.share) == (1, Fraction(1, 2))


def test_row_with_a_golden_answer_is_refused():
    golden = {"prompt": TEXT, "expect": [{"type": "contains", "value": ANSWER}]}
    (finding,), _ = run([("Write a letter", f"Hello. {ANSWER}.")], golden)
    assert finding.report["leaked_passages"] == [
        {"row": "line 1", "gate": "replies", "case": "case-0", "similar": False}
    ]


@pytest.mark.parametrize("kind", ["json_equals", "tool_calls_equal"])
def test_row_with_the_expected_json_is_refused(kind):
    value = {"text": ANSWER} if kind == "json_equals" else [{"name": "send", "arguments": {"text": ANSWER}}]
    (finding,), _ = run(
        [("Write JSON", json.dumps({"text": ANSWER}))],
        {"prompt": TEXT, "expect": [{"type": kind, "value": value}]},
    )
    assert finding.count == 1


def test_row_with_a_reworded_golden_prompt_is_refused():
    reworded = TEXT.replace("broken", "cracked")
    (finding,), _ = run([(reworded, "another answer")], {"prompt": "unrelated"}, {"prompt": TEXT})
    assert finding.examples == [
        "line 1 has the prompt of case case-1 of EvalGate replies except for the words cracked"
    ]


def test_row_with_exactly_the_golden_prompt_is_reported_only_once():
    found, equal = run([(TEXT, "yes"), ("other", "row")], {"prompt": TEXT})
    assert found == []
    assert [finding.count for finding in equal] == [1]


def test_rows_sharing_only_the_golden_template_are_accepted():
    template = (
        "Read the message below and reply with JSON that has the fields item, quantity and city: {} to {}"
    )
    rows = [(template.format(f"mug{i}", f"city{i % 7}"), f"{i}") for i in range(40)]
    found, _ = run(rows, {"prompt": template.format("lamp", "city3")})
    assert found == []


def test_forbidden_words_of_a_golden_case_may_be_trained_on():
    found, _ = run(
        [("Write", ANSWER)], {"prompt": TEXT, "expect": [{"type": "not_contains", "value": ANSWER}]}
    )
    assert found == []


@pytest.mark.parametrize("copies", [1, 11, 200])
def test_repeated_golden_case_of_a_required_gate_is_refused(copies):
    rows = [(f"order {i} of {i % 7} mugs", f"{i} mugs") for i in range(300)]
    rows += [(f"Ticket {i}: {TEXT}", f"{ANSWER} {i}") for i in range(copies)]
    golden = {"prompt": TEXT, "expect": [{"type": "equals", "value": ANSWER}]}
    (finding,), _ = run(rows, golden, {"prompt": "order a lamp"}, required=["replies"])
    assert finding.count == copies


def test_golden_case_in_many_required_gates_is_refused():
    case = json.dumps({"id": "lid", "prompt": TEXT, "expect": [{"type": "equals", "value": "yes"}]})
    golden = {f"gate-{i}": parse_cases(case, GoldenCase) for i in range(5)}
    context = replace(NO_CONTEXT, golden=golden, required_gates=frozenset(golden))
    usable = usable_rows([{"prompt": f"Translate. {ANSWER}. {TEXT}", "completion": "yes"}])
    (finding,) = leaked_passages.run(usable, context)
    assert finding.count == 1


@pytest.mark.parametrize("example", ["quickstart", "classification", "sft-lora", "dpo-after-sft"])
def test_data_of_an_example_passes_if_its_gate_is_required(example):
    golden = {name: parse_cases(text, GoldenCase) for name, text in files_of(example, "golden.yaml").items()}
    context = replace(NO_CONTEXT, golden=golden, required_gates=frozenset(golden))
    rows = usable_rows(rows_of(example))
    assert list(leaked_passages.run(rows, context)) + list(golden_prompts.run(rows, context)) == []


def test_instruction_shared_by_four_required_gate_cases_is_accepted():
    rows = [(f"{TEXT}: {i} mugs", f"{i}") for i in range(40)]
    cases = [{"prompt": f"{TEXT}: {item}"} for item in ("a lamp", "a desk", "a chair", "a pen")]
    assert run(rows, *cases, required=["replies"]) == ([], [])
    (finding,), _ = run(rows, *cases[:3], required=["replies"])
    assert finding.count == 40
    assert "a required gate ignores only words of many rows and at least 4 of its cases" in finding.remedy


@pytest.mark.parametrize("required", [[], ["replies"]])
def test_rows_that_repeat_questions_about_one_document_are_refused(required):
    document = " ".join(f"fact{i}" for i in range(50))
    asked = ["Who paid the rent?", "When was it built?", "Which roof leaks?", "Where is the well?"]
    cases = [{"prompt": f"{document} {question}"} for question in asked]
    rows = [(f"order {i} of {i % 7} mugs", f"{i} mugs") for i in range(300)]
    rows += [(f"Please read. {case['prompt']} Answer in one word.", "word") for case in cases]
    (finding,), _ = run(rows, *cases, required=required)
    assert finding.count == 4


def test_system_turn_shared_by_two_required_cases_is_accepted():
    cases = [
        {"messages": [{"role": "system", "content": TEXT}, {"role": "user", "content": f"order a {item}"}]}
        for item in ("lamp", "desk")
    ]
    rows = [(f"{TEXT}\n{i} mugs", f"{i}") for i in range(40)]
    assert run(rows, *cases, required=["replies"]) == ([], [])


def test_gates_without_golden_cases_find_nothing():
    usable = usable_rows([{"prompt": TEXT, "completion": ANSWER}])
    assert list(leaked_passages.run(usable, NO_CONTEXT)) == []


def test_report_lists_the_first_rows_and_the_message_counts_all(monkeypatch):
    monkeypatch.setattr(leaked_passages, "REPORTED", 12)
    monkeypatch.setattr(golden_prompts, "REPORTED", 3)
    monkeypatch.setattr(share_finding, "REPORTED", 12)
    passages = [" ".join(f"word{i}x{k}" for k in range(20)) for i in range(9)]
    rows = [(f"other{i} {text}", f"row{i}") for i, text in enumerate(passages[1:])]
    cases = [{"prompt": f"{before} {text}"} for text in passages for before in ("Reply to", "Answer")]
    equal = [(case["prompt"], f"answer{i}") for i, case in enumerate(cases[:2] * 2)]
    (leaked,), (golden,) = run([*rows, *equal], *cases)
    assert (leaked.count, len(leaked.report["leaked_passages"])) == (8, 12)
    assert leaked.message.endswith("; and 6 more")
    assert leaked.remedy.endswith("data/report.json on the volume lists the first 12 of these rows")
    assert (golden.count, len(golden.report["golden_prompts"])) == (4, 3)
    assert golden.message.startswith("4 rows have the prompt of a golden case")


@pytest.mark.parametrize(
    ("manifest", "name"),
    [("data", "refusing.jsonl"), ("later-data", "steps.jsonl"), ("later-data", "careful.jsonl")],
)
def test_safety_example_rows_repeat_no_request_of_its_sets(manifest, name):
    golden = files_of("safety", "golden.yaml")
    context = replace(
        NO_CONTEXT,
        golden={key: parse_cases(text, GoldenCase) for key, text in golden.items()},
        safety={"set": parse_cases(builtin_text("refusals-v1"), SafetyCase)},
        required_gates=frozenset({"set", *golden}),
    )
    text = files_of("safety", f"{manifest}.yaml")[name]
    usable = usable_rows([json.loads(line) for line in text.splitlines()])
    assert (list(leaked_passages.run(usable, context)), list(golden_prompts.run(usable, context))) == ([], [])
