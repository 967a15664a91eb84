"""Samples of inspect_ai become golden cases."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.golden_outcomes import outcome
from tunegate_client.imports.imported import Imported, NotCarriedError
from tunegate_client.imports.inspect_ai import import_inspect


def imported(folder: Path, *samples: Any, scorer: str = "match") -> Imported:
    (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return import_inspect(folder / "samples.jsonl", scorer)


@pytest.mark.parametrize(
    ("scorer", "target", "passes", "fails"),
    [
        ("includes", "Strasse", "die STRAßE ", "die Gasse"),
        ("includes", ["yes", "sure"], "Sure!", "no"),
        ("match", "Paris", "The answer is **paris**.\n", "Paris, of course"),
        ("match", "(4)", "2 + 2 = 4", "4 apples"),
        ("match", ["a", "b"], "is B", "is c"),
        ("exact", "The New-York Times", "new york times!", "new york"),
        ("exact", "yes", '"Yes."', "yes sir"),
        ("exact", ["a", "cat"], "a the CAT", "dog"),
    ],
)
def test_a_scorer_passes_the_same_outputs(
    tmp_path: Path, scorer: str, target: Any, passes: str, fails: str
) -> None:
    (case,) = imported(tmp_path, {"input": "?", "target": target}, scorer=scorer).cases
    assert (outcome(case, passes), outcome(case, fails)) == ("p", "f")


def test_ids_messages_and_metadata_are_carried_over(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    found = imported(
        tmp_path,
        {"id": "sum 1", "input": chat, "target": 4, "metadata": {"level": "easy"}},
        {"id": 7, "input": "2+3?", "target": "5"},
        {"input": "2+4?", "target": "6"},
    )
    assert [case["id"] for case in found.cases] == ["sum-1", "7", "sample-3"]
    assert found.cases[0]["messages"] == chat
    assert found.cases[0]["tags"] == ["level.easy"]


def test_csv_samples_are_read(tmp_path: Path) -> None:
    (tmp_path / "samples.csv").write_text(
        'input,target,id,metadata\n"a, b",yes,one,"{""kind"": ""x""}"\n,,,\n'
    )
    (case,) = import_inspect(tmp_path / "samples.csv", "includes").cases
    assert (case["id"], case["prompt"], case["tags"]) == ("one", "a, b", ["kind.x"])


@pytest.mark.parametrize(
    ("sample", "scorer", "kind", "reason"),
    [
        ({"input": "?", "target": "42"}, "exact", "target", "has a number"),
        ({"input": "?", "target": "..."}, "match", "target", "only punctuation"),
        ({"input": "?", "target": ["yes", " "]}, "includes", "target", "only white space"),
        ({"input": "?", "target": "the"}, "exact", "target", "no target has anything"),
        ({"input": "?", "target": "A", "choices": ["x", "y"]}, "match", "choices", "what the model is asked"),
        ({"input": "?", "target": "A", "sandbox": "docker"}, "match", "sandbox", "where it runs"),
        ({"target": "A"}, "match", "input", "must be a text"),
        (
            {"input": [{"role": "tool", "content": "x"}], "target": "A"},
            "match",
            "input",
            "without tool calls",
        ),
    ],
)
def test_a_sample_without_an_exact_equivalent_is_named(
    tmp_path: Path, sample: Any, scorer: str, kind: str, reason: str
) -> None:
    found = imported(tmp_path, sample, scorer=scorer)
    assert found.cases == []
    assert (found.problems[0].kind, found.problems[0].left_out) == (kind, ["sample-1"])
    assert reason in found.problems[0].reason


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "[1]"),
        ("a.csv", "input,target\na\n"),
        ("a.csv", 'input,metadata\na,"{"\n'),
    ],
)
def test_a_file_that_is_not_a_data_set_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(NotCarriedError, match="file"):
        import_inspect(tmp_path / name, "match")
