"""Samples of openai/evals become golden cases."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.golden_outcomes import outcome
from tunegate_client.imports.imported import Imported, NotCarriedError
from tunegate_client.imports.openai_evals import import_evals


def imported(folder: Path, *samples: Any, name: str = "Match") -> Imported:
    (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return import_evals(folder / "samples.jsonl", name)


@pytest.mark.parametrize(
    ("name", "ideal", "passes", "fails"),
    [
        ("Match", "Paris", "Paris, France", " Paris"),
        ("Match", ["Paris", "paris"], "paris", "PARIS"),
        ("Includes", "Paris", "In Paris.", "In paris."),
        ("Includes", ["a", "b"], "b", "c"),
        ("JsonMatch", '{"a": [2, "x"]}', ' {"a": [2.0, "x"]}\n', '{"a": [2, "x"], "b": null}'),
        ("JsonMatch", '{"a": true, "b": 0}', '{"b": false, "a": 1.0}', '{"a": true, "b": 1}'),
        ("JsonMatch", ["[]", "{}"], "{}", "[[]]"),
    ],
)
def test_an_eval_passes_the_same_outputs(
    tmp_path: Path, name: str, ideal: Any, passes: str, fails: str
) -> None:
    (case,) = imported(tmp_path, {"input": "?", "ideal": ideal}, name=name).cases
    assert (outcome(case, passes), outcome(case, fails)) == ("p", "f")


def test_texts_and_chats_are_carried_over(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    found = imported(tmp_path, {"input": chat, "ideal": "4"}, {"input": "2+3?", "ideal": "5", "id": "five"})
    assert [case["id"] for case in found.cases] == ["sample-1", "five"]
    assert (found.cases[0]["messages"], found.cases[1]["prompt"]) == (chat, "2+3?")


@pytest.mark.parametrize(
    ("sample", "name", "kind", "reason"),
    [
        ({"input": "?", "ideal": "a"}, "FuzzyMatch", "FuzzyMatch", "only a part of the ideal answer"),
        ({"input": "?", "ideal": "a"}, "ModelBasedClassify", "ModelBasedClassify", "asks a model"),
        ({"input": "?", "ideal": "a"}, "Translate", "Translate", "is not one of Includes, JsonMatch, Match"),
        ({"input": "?", "ideal": ""}, "Match", "ideal", "has no text"),
        ({"input": "?", "ideal": ["a", " "]}, "Includes", "ideal", "has no text"),
        ({"input": "?", "ideal": 4}, "Match", "ideal", "a text or a list"),
        ({"input": "?", "ideal": "{"}, "JsonMatch", "ideal", "is not JSON"),
        ({"input": "?", "ideal": '{"a": null}'}, "JsonMatch", "ideal", "null"),
        ({"input": "?", "ideal": "[1e400]"}, "JsonMatch", "ideal", "not finite"),
        ({"input": "?", "ideal": "[1, 1, 1, 0, 0, 0, true]"}, "JsonMatch", "ideal", "too many values"),
        ({"input": "?", "ideal": ["[1, 1, 0, 0, 0]"] * 3}, "JsonMatch", "ideal", "too many values"),
        ({"input": "", "ideal": "a"}, "Match", "input", "a text or a list"),
        ({"input": ["?"], "ideal": "a"}, "Match", "input", "a role and a text"),
        (
            {"input": [{"role": "system", "name": "example_user", "content": "?"}], "ideal": "a"},
            "Match",
            "input",
            "with a name",
        ),
    ],
)
def test_a_sample_without_an_exact_equivalent_is_named(
    tmp_path: Path, sample: Any, name: str, kind: str, reason: str
) -> None:
    found = imported(tmp_path, sample, name=name)
    assert found.cases == []
    assert (found.problems[0].kind, found.problems[0].left_out) == (kind, ["sample-1"])
    assert reason in found.problems[0].reason


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_file_without_samples_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(NotCarriedError, match="file"):
        import_evals(tmp_path / "a.jsonl", "Match")
