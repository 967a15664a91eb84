"""The committed sets are what their generator writes, and have no fault besides the expected one."""

import json
from typing import Any

import pytest
import yaml

from support.data_faults.clean import DataSet
from support.data_faults.similarity import similar_pairs, word_shingles, words_of
from support.fault_sets import FOLDER, SETS, SIZE, components, functions, names
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.parse import parse_pairs, parse_rows
from tunegate_trainer.data.records import read_records

SHAPES = {"duplicates": names, "leakage": names, "contradictions": components, "label_balance": components}


def _expected(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name / "expected.yaml").read_text())


def _rows(name: str, file: str = "train.jsonl") -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name / file).read_text().splitlines()]


def _shape(name: str) -> DataSet:
    return SHAPES.get(name, functions)()


def test_each_folder_has_a_generator():
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == SETS.keys()


@pytest.mark.parametrize("name", SETS)
def test_committed_files_are_what_the_generator_writes(name):
    made = SETS[name]()
    folder = {path.name: path.read_text() for path in (FOLDER / name).iterdir()}
    assert folder == {**made.files, "expected.yaml": made.expected}


@pytest.mark.parametrize("name", SETS)
def test_only_the_expected_lines_cannot_be_parsed(name):
    parsed = parse_rows(read_records(FOLDER / name / "train.jsonl", "data.sources[train]"), Columns(), None)
    expected = _expected(name)["lines"] if name == "bad_rows" else []
    assert [problem.place.number for problem in parsed.bad] == expected
    assert len({problem.reason for problem in parsed.bad}) == len(expected)
    assert not parsed.duplicates
    assert len(parsed.rows) >= SIZE - 2 if name != "few_rows" else len(parsed.rows) == 40


@pytest.mark.parametrize("name", [name for name in SETS if name.startswith("pairs")])
def test_all_pairs_can_be_parsed(name):
    parsed = parse_pairs(
        read_records(FOLDER / name / "pairs.jsonl", "data.sources[preference]"), Columns(), None
    )
    assert (len(parsed.rows), parsed.bad, parsed.duplicates) == (SIZE, [], [])
    prompts = {row["prompt"] for row in _rows(name)}
    assert not prompts & {row["prompt"] for row in _rows(name, "pairs.jsonl")}


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("bad_rows", "contradictions")])
def test_only_the_set_for_duplicates_has_similar_rows(name):
    data = _shape(name)
    pairs = similar_pairs([data.text(row) for row in _rows(name)], 0.7)
    lines = [second + 1 for _, second in pairs]
    assert sorted(lines) == (_expected(name)["lines"] if name == "duplicates" else [])


def test_only_contradictory_prompts_occur_twice():
    rows = _rows("contradictions")
    prompts = [row["prompt"] for row in rows]
    twice = [line for line, prompt in enumerate(prompts, start=1) if prompts.count(prompt) == 2]
    assert twice == _expected("contradictions")["lines"]
    assert len({(row["prompt"], row["completion"]) for row in rows}) == len(rows)


def test_only_leaked_golden_prompts_share_a_passage_with_training_rows():
    data = names()
    golden = parse_cases((FOLDER / "leakage" / "golden.jsonl").read_text(), GoldenCase)
    runs = {run for case in golden for run in word_shingles(data.content({"prompt": case.prompt or ""}), 13)}
    contents = [data.content(row) for row in _rows("leakage")]
    leaked = [line for line, content in enumerate(contents, start=1) if word_shingles(content, 13) & runs]
    assert leaked == _expected("leakage")["lines"]


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("bad_rows", "templates", "leakage")])
def test_all_prompts_of_a_set_have_the_same_template(name):
    before, after = _shape(name).template.split("{}")
    assert all(row["prompt"].startswith(before) and row["prompt"].endswith(after) for row in _rows(name))


def test_cut_answers_are_the_only_answers_without_a_full_stop():
    for name in SETS.keys() - SHAPES.keys() - {"bad_rows", "languages"}:
        ends = [
            line
            for line, row in enumerate(_rows(name), start=1)
            if not row["completion"].endswith((".", ".)"))
        ]
        assert ends == (_expected(name)["lines"] if name == "cut_texts" else []), name


def test_near_equal_pairs_are_found_at_the_expected_line_numbers():
    for name in ("pairs", "pairs_length_bias"):
        rows = _rows(name, "pairs.jsonl")
        near = [
            line
            for line, row in enumerate(rows, start=1)
            if len(set(words_of(row["chosen"])) ^ set(words_of(row["rejected"]))) <= 1
        ]
        assert near == (_expected(name)["lines"] if name == "pairs" else [])


def test_chosen_is_longer_in_the_set_for_length_bias_alone():
    shares = {}
    for name in ("pairs", "pairs_length_bias"):
        rows = _rows(name, "pairs.jsonl")
        shares[name] = sum(len(row["chosen"].split()) > len(row["rejected"].split()) for row in rows) / len(
            rows
        )
    assert shares["pairs_length_bias"] >= 0.95
    assert 0.4 <= shares["pairs"] <= 0.6
