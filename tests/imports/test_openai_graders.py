"""Evaluation data and graders of OpenAI become golden cases."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.golden_outcomes import outcome
from tunegate_client.imports.imported import Imported, NotCarriedError
from tunegate_client.imports.openai_graders import import_openai

OUTPUT = "{{ sample.output_text }}"
PROMPT = [
    {"role": "developer", "content": "Classify."},
    {"role": "user", "content": {"type": "input_text", "text": "Ticket: {{ item.ticket.text }}"}},
]
ROW = {"item": {"ticket": {"text": "No {{power}}"}, "label": "Hardware", "n": 4}}


def check(operation: str, reference: str = "{{item.label}}", given: str = OUTPUT) -> dict[str, str]:
    return {
        "type": "string_check",
        "name": "c",
        "input": given,
        "reference": reference,
        "operation": operation,
    }


def imported(
    folder: Path, *graders: Any, rows: tuple[Any, ...] = (ROW,), incomplete: bool = False, **fields: Any
) -> Imported:
    config = {
        "testing_criteria": list(graders),
        "data_source": {"input_messages": {"type": "template", "template": PROMPT}},
        **fields,
    }
    (folder / "eval.json").write_text(json.dumps(config))
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return import_openai(folder / "eval.json", folder / "data.jsonl", incomplete=incomplete)


def multi(formula: str, **graders: Any) -> dict[str, Any]:
    both = {"a": check("like"), "b": check("ne", "Hardware!"), **graders}
    return {"type": "multi", "graders": both, "calculate_output": formula}


@pytest.mark.parametrize(
    ("formula", "outcomes"),
    [
        ("a * b", "pfff"),
        ("min(a, b)", "pfff"),
        ("a * (b * a)", "pfff"),
        ("max(min(a, b), a)", "ppff"),
        ("max(a, b)", "pppp"),
    ],
)
def test_a_formula_that_gives_1_or_0_is_carried_over(tmp_path: Path, formula: str, outcomes: str) -> None:
    (case,) = imported(tmp_path, multi(formula)).cases
    assert "".join(outcome(case, each) for each in ("Hardware.", "Hardware!", "", "x")) == outcomes


@pytest.mark.parametrize(
    ("grader", "passes", "fails"),
    [
        (check("eq"), "Hardware", "Hardware\n"),
        (check("eq", OUTPUT, "{{ item.label }}"), "Hardware", "hardware"),
        (check("eq", "{{item.label}}-{{item.n}}"), "Hardware-4", "Hardware"),
        (check("ne"), "hardware", "Hardware"),
        (check("like"), "It is Hardware.", "It is hardware."),
    ],
)
def test_imported_string_check_passes_the_outputs_that_openai_documents(
    tmp_path: Path, grader: Any, passes: str, fails: str
) -> None:
    (case,) = imported(tmp_path, grader).cases
    assert (outcome(case, passes), outcome(case, fails)) == ("p", "f")


def test_all_criteria_must_pass_and_the_prompt_is_rendered(tmp_path: Path) -> None:
    (case,) = imported(tmp_path, check("like"), check("ne", "Hardware")).cases
    assert case["messages"] == [
        {"role": "system", "content": "Classify."},
        {"role": "user", "content": "Ticket: No {{power}}"},
    ]
    assert [outcome(case, each) for each in ("Hardware!", "Hardware", "x")] == ["p", "f", "f"]


def test_rows_for_fine_tuning_have_their_own_messages(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(json.dumps({"grader": check("eq", "{{item.answer}}")}))
    row = {"messages": [{"role": "user", "content": "2+2?"}], "answer": "4", "id": "sum"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row))
    (case,) = import_openai(tmp_path / "g.yaml", tmp_path / "d.jsonl").cases
    assert (case["id"], case["messages"]) == ("sum", [{"role": "user", "content": "2+2?"}])
    assert (outcome(case, "4"), outcome(case, "")) == ("p", "f")


@pytest.mark.parametrize(
    ("grader", "kind", "reason"),
    [
        ({"type": "score_model"}, "score_model", "asks a model"),
        ({"type": "python", "source": "x"}, "python", "runs code"),
        ({"type": "text_similarity", "evaluation_metric": "bleu"}, "text_similarity bleu", "how words"),
        ({"type": "text_similarity", "evaluation_metric": "rouge_l"}, "text_similarity rouge_l", "how words"),
        ({"type": "text_similarity", "evaluation_metric": "cosine"}, "text_similarity cosine", "embeddings"),
        (
            {"type": "text_similarity", "evaluation_metric": "fuzzy_match"},
            "text_similarity fuzzy_match",
            "not documented",
        ),
        ({"type": "label_model", "labels": ["a"]}, "label_model", "asks a model"),
        (multi("(a + b) / 2"), "multi", "gives a score"),
        (multi("0.5 * a + 0.5 * b"), "multi", "gives a score"),
        (multi("a * c"), "multi", "gives a score"),
        (multi("a ^ b"), "multi", "gives a score"),
        (multi("a *"), "multi", "not a formula"),
        (multi("a * b", b={"type": "python", "source": "x"}), "python", "runs code"),
        (multi("a", a={"type": "multi"}), "multi", "inside another"),
        ({"type": "multi", "graders": {}}, "multi", "calculate_output"),
        (check("ilike"), "string_check ilike", "not documented"),
        (check("eq", given="{{ sample.output_json.label }}"), "string_check", "input must be"),
        (check("like", OUTPUT, "{{item.label}}"), "string_check", "input must be"),
        (check("eq", "{{ item.label | upper }}"), "template", "only fields"),
        (check("eq", "{{ item.missing }}"), "template", "item.missing is not a text"),
        (check("eq", ""), "string_check", "is empty"),
        (check("between"), "string_check", "between is unknown"),
    ],
)
def test_a_grader_without_an_equivalent_is_named(tmp_path: Path, grader: Any, kind: str, reason: str) -> None:
    found = imported(tmp_path, grader)
    assert found.cases == []
    assert (found.problems[0].kind, found.problems[0].left_out) == (kind, ["row-1"])
    assert reason in found.problems[0].reason


def test_a_case_without_one_grader_is_written_only_on_request(tmp_path: Path) -> None:
    graders = (check("eq"), {"type": "label_model"})
    assert imported(tmp_path, *graders).cases == []
    (case,) = imported(tmp_path, *graders, incomplete=True).cases
    assert len(case["expect"]) == 1


def test_a_row_without_a_prompt_is_named(tmp_path: Path) -> None:
    found = imported(tmp_path, check("eq"), data_source=None)
    assert [problem.kind for problem in found.problems] == ["input_messages"]


@pytest.mark.parametrize(("rows", "kind"), [((1,), "data"), ((), "data")])
def test_data_that_is_no_list_of_objects_is_refused(tmp_path: Path, rows: tuple[Any, ...], kind: str) -> None:
    with pytest.raises(NotCarriedError, match=kind):
        imported(tmp_path, check("eq"), rows=rows)
