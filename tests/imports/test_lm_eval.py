"""Samples that lm-eval logged become golden cases."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.golden_outcomes import outcome
from tunegate_client.imports.imported import Imported, NotCarriedError
from tunegate_client.imports.lm_eval import import_lm_eval

FIRST = {"function": "take_first"}
GSM8K: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["Question:", "</s>"], "do_sample": False},
    "metric_list": [
        {
            "metric": "exact_match",
            "aggregation": "mean",
            "ignore_case": True,
            "ignore_punctuation": False,
            "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
        }
    ],
    "filter_list": [
        {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "#### ([0-9.,]+)"}, FIRST]},
        {
            "name": "flexible",
            "filter": [{"function": "regex", "regex_pattern": "[0-9.,]+", "group_select": -1}, FIRST],
        },
    ],
}
"""The task gsm8k of lm-eval, slightly shortened."""
PLAIN: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": "\n"},
    "filter_list": [{"name": "none", "filter": [FIRST]}],
}


def exact_match(**settings: Any) -> dict[str, Any]:
    return {"metric_list": [{"metric": "exact_match", **settings}]}


def filtered(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"filter_list": [{"name": "one", "filter": [*steps, FIRST]}]}


def sample(target: str, doc_id: int = 0, prompt: str = "2+2?", **fields: Any) -> dict[str, Any]:
    arguments = {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"]}}}
    return {"doc_id": doc_id, "doc": {"answer": target}, "target": target, "arguments": arguments, **fields}


def imported(
    folder: Path,
    config: dict[str, Any],
    *samples: dict[str, Any],
    name: str | None = None,
    incomplete: bool = False,
    **results: Any,
) -> Imported:
    log = {"configs": {"math_qa": config}, "chat_template": None, **results}
    (folder / "results_2026-11-29T08-10.json").write_text(json.dumps(log))
    path = folder / "samples_math_qa_2026-11-29T08-10.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in samples))
    return import_lm_eval(path, name, incomplete=incomplete)


@pytest.mark.parametrize(
    ("name", "passes", "fails"),
    [
        ("strict", "So $9,000 + 9,000.\n#### 18,000.", "So it is 18000"),
        ("strict", "#### 18000\n\nQuestion: b\n#### 5", "#### 17000\n\nQuestion: b\n#### 18000"),
        ("flexible", "Of 3, all: $18,000", "18000 of 3"),
    ],
)
def test_an_answer_is_cut_and_filtered_like_in_gsm8k(
    tmp_path: Path, name: str, passes: str, fails: str
) -> None:
    worked = "9,000 and 9,000 are 18,000.\n#### 18,000"
    (case,) = imported(tmp_path, GSM8K, sample(worked), name=name).cases
    assert (case["id"], case["tags"], case["prompt"]) == ("doc-0", ["math_qa"], "2+2?")
    assert case["expect"][0]["value"] == "18000"
    assert (outcome(case, passes), outcome(case, fails)) == ("p", "f")


@pytest.mark.parametrize(
    ("config", "target", "passes", "fails"),
    [
        ({}, "yes", "yes\nno", "Yes"),
        ({}, "yes", "yes", " yes"),
        (exact_match(ignore_case=True), "Yes", "yES", "yes."),
        (exact_match(ignore_punctuation=True), "$5", "5!", "5 !"),
        (filtered({"function": "remove_whitespace"}), "yes", " yes ", "Yes"),
        (
            {**exact_match(ignore_punctuation=True), **filtered({"function": "remove_whitespace"})},
            "yes",
            " yes! ",
            "yes !",
        ),
        (filtered({"function": "regex", "regex_pattern": r"\((.)\)|is (.)"}), "B", "is B (A)", "(A) is B"),
    ],
)
def test_a_metric_passes_the_same_outputs(
    tmp_path: Path, config: dict[str, Any], target: str, passes: str, fails: str
) -> None:
    (case,) = imported(tmp_path, {**PLAIN, **config}, sample(target)).cases
    assert (outcome(case, passes), outcome(case, fails)) == ("p", "f")


def test_one_of_several_targets_must_match(tmp_path: Path) -> None:
    (case,) = imported(tmp_path, PLAIN, sample("['yes', 'sure']")).cases
    assert [outcome(case, each) for each in ("yes", "sure", "['yes', 'sure']")] == ["p", "p", "f"]


def test_field_with_text_like_a_list_is_one_target(tmp_path: Path) -> None:
    (case,) = imported(tmp_path, {**PLAIN, "doc_to_target": "answer"}, sample("['a']")).cases
    assert [outcome(case, each) for each in ("['a']", "a")] == ["p", "f"]


def test_only_samples_of_the_chosen_filter_are_counted(tmp_path: Path) -> None:
    samples = [sample(str(i), i, filter=name) for name in ("strict", "flexible") for i in (1, 2)]
    found = imported(tmp_path, GSM8K, *samples, name="flexible")
    assert [case["id"] for case in found.cases] == ["doc-1", "doc-2"]
    assert found.found == 2


@pytest.mark.parametrize(
    ("config", "kind", "reason"),
    [
        ({"output_type": "multiple_choice"}, "multiple_choice", "probabilities"),
        ({"output_type": "loglikelihood"}, "loglikelihood", "probabilities"),
        ({"process_results": "def f(doc, results): ..."}, "process_results", "runs code"),
        ({"doc_to_choice": ["a", "b"]}, "doc_to_choice", "one of several choices"),
        ({"gen_prefix": "Answer:"}, "gen_prefix", "beginning of the answer"),
        ({"metric_list": [{"metric": "bleu"}]}, "bleu", "over all samples"),
        ({"metric_list": [{"metric": "def agg(x):\n    return 1"}]}, "metric", "runs code"),
        (exact_match(ignore_numbers=True), "exact_match", "with ignore_numbers"),
        (exact_match(hf_evaluate=True), "exact_match", "with hf_evaluate"),
        (filtered({"function": "custom", "filter_fn": "f"}), "custom", "runs code"),
        (filtered({"function": "majority_vote"}), "majority_vote", "votes on several outputs"),
        (filtered({"function": "regex", "group_select": 1}), "regex", "neither the first nor the last"),
        (filtered({"function": "lowercase"}), "lowercase", "without an equivalent"),
        (filtered({"function": "remove_whitespace"}, {"function": "regex"}), "regex", "follows another"),
        ({"filter_list": [{"name": "a", "filter": []}]}, "filter", "take_first"),
        ({"doc_to_target": "def f(doc): ..."}, "doc_to_target", "is code"),
        ({"metric_list": ["exact_match"]}, "metric_list", "must have metrics"),
        (exact_match(regexes_to_ignore=["("]), "regexes_to_ignore", "invalid pattern"),
    ],
)
def test_a_task_without_an_equivalent_is_named(
    tmp_path: Path, config: dict[str, Any], kind: str, reason: str
) -> None:
    found = imported(tmp_path, {**PLAIN, **config}, sample("['a']"), sample("['b']", 1), incomplete=True)
    assert found.cases == []
    problem = next(each for each in found.problems if each.kind == kind)
    assert (problem.count, problem.left_out) == (2, ["doc-0", "doc-1"])
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("config", "fields", "kind", "reason"),
    [
        ({}, {"target": ""}, "target", "nothing that is compared"),
        ({}, {"target": " "}, "target", "nothing that is compared"),
        (exact_match(ignore_punctuation=True), {"target": "..."}, "target", "nothing that is compared"),
        (filtered({"function": "remove_whitespace"}), {"target": " x"}, "target", "white space at its ends"),
        (
            filtered({"function": "regex", "fallback": "none"}),
            {"target": "none"},
            "target",
            "equals the fallback",
        ),
        ({}, {"target": "[1, 2]"}, "target", "not a text"),
        ({}, {"target": "x", "arguments": {}}, "arguments", "one prompt"),
    ],
)
def test_a_sample_without_an_equivalent_is_named(
    tmp_path: Path, config: dict[str, Any], fields: dict[str, Any], kind: str, reason: str
) -> None:
    found = imported(tmp_path, {**PLAIN, **config}, {**sample(fields["target"]), **fields})
    assert found.cases == []
    assert (found.problems[0].kind, found.problems[0].left_out) == (kind, ["doc-0"])
    assert reason in found.problems[0].reason


def test_samples_with_lists_and_texts_are_refused(tmp_path: Path) -> None:
    found = imported(tmp_path, PLAIN, sample("['a']"), sample("b", 1))
    assert (found.cases, found.problems[0].kind, found.problems[0].count) == ([], "doc_to_target", 2)


def test_other_metrics_are_dropped_only_on_request(tmp_path: Path) -> None:
    config = {**PLAIN, "metric_list": [{"metric": "exact_match"}, {"metric": "bleu"}]}
    assert imported(tmp_path, config, sample("a")).cases == []
    found = imported(tmp_path, config, sample("a"), incomplete=True)
    assert (len(found.cases), found.problems[0].incomplete) == (1, ["doc-0"])


def test_a_log_with_a_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotCarriedError, match="without --apply_chat_template"):
        imported(tmp_path, PLAIN, sample("a"), chat_template="{{ messages }}")


def test_filters_without_functions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotCarriedError, match="each with a name and a list of functions"):
        imported(tmp_path, {**PLAIN, "filter_list": [{"name": "a"}]}, sample("a"))


@pytest.mark.parametrize("name", [None, "lenient"])
def test_one_of_several_filters_must_be_chosen(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(NotCarriedError, match="choose one with --filter: strict, flexible"):
        imported(tmp_path, GSM8K, sample("a"), name=name)


def test_a_log_without_its_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "samples_a_2026.jsonl").write_text("")
    with pytest.raises(NotCarriedError, match=r"results_2026\.json of lm-eval must be in the same folder"):
        import_lm_eval(tmp_path / "samples_a_2026.jsonl")
    with pytest.raises(NotCarriedError, match="samples_TASK_DATE"):
        import_lm_eval(tmp_path / "a.jsonl")
