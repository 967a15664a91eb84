"""Rows that share much of their text stay in one split, and shared system turns are no leaks, so that clean
data is not refused."""

import json
import random

import pytest

from support.checked_files import checked_files
from tunegate_trainer.data import overlaps

order = random.Random(0)


def words(count: int) -> str:
    return " ".join(f"word{order.randrange(10**9)}" for _ in range(count))


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def chat(system: str, user: str, *answer: str) -> dict[str, object]:
    texts = zip(("system", "user", "assistant"), (system, user, *answer), strict=False)
    return {"messages": [{"role": role, "content": content} for role, content in texts]}


def golden(name: str, system: str, user: str) -> dict[str, object]:
    return {"id": name, **chat(system, user), "expect": [{"type": "contains", "value": "yes"}]}


@pytest.mark.parametrize("own", [20, pytest.param(80, marks=pytest.mark.slow)])
def test_rows_that_share_half_of_their_text_are_accepted(tmp_path, own):
    shared = [words(100) for _ in range(60)]
    rows = [{"prompt": f"{text} {words(own)}", "completion": words(3)} for text in shared for _ in range(5)]
    order.shuffle(rows)
    found, report = checked_files({"train.jsonl": lines(rows)}, tmp_path)
    assert found.failure is None
    assert report["groups"] == 60
    assert min(report["split"]["dev"], report["split"]["test"]) >= 9


def test_row_that_contains_another_row_gets_its_split(tmp_path):
    rows = [{"prompt": words(40), "completion": words(10)} for _ in range(200)]
    longer = [
        {"prompt": f"{words(90)} {row['prompt']} {row['completion']}", "completion": words(20)}
        for row in rows[:100]
    ]
    found, report = checked_files({"train.jsonl": lines([*rows, *longer])}, tmp_path)
    assert found.failure is None
    assert report["groups"] == 200


def test_overlaps_that_sampling_misses_are_split_again_unless_off(tmp_path, monkeypatch):
    monkeypatch.setattr(overlaps, "_SAMPLED", 1)  # misses almost half of these overlaps
    texts = [words(40) for _ in range(150)]
    halves = [f"{words(60)} {' '.join(text.split()[:28])}" for text in texts]  # 16 of 28 passages
    rows = [{"prompt": text, "completion": words(3)} for text in [*texts, *halves]]
    reports = {}
    for policy in ("Enforce", "Off"):
        (tmp_path / policy).mkdir()
        files = {"train.jsonl": lines(rows)}
        found, reports[policy] = checked_files(files, tmp_path / policy, Leakage={"policy": policy})
        assert found.failure is None
        assert {one.name: one.result for one in found.results}["split_leakage"] in ("Passed", policy)
    groups, split = reports["Enforce"]["groups"], reports["Enforce"]["split"]
    assert 150 < groups < reports["Off"]["groups"], "without the check, they are not searched"
    assert min(split["dev"], split["test"]) >= 9


def test_long_system_turn_that_several_rows_share_is_no_leak(tmp_path):
    systems = [words(60) for _ in range(60)]
    rows = [chat(system, words(12), words(8)) for system in systems for _ in range(5)]
    order.shuffle(rows)
    cases = [golden(f"case-{i}", system, words(12)) for i, system in enumerate(systems[:20])]
    found, report = checked_files({"train.jsonl": lines(rows), "golden.jsonl": lines(cases)}, tmp_path)
    assert found.failure is None
    assert report["groups"] == 300


def test_golden_question_under_shared_system_turn_is_a_leak(tmp_path):
    systems = [words(60) for _ in range(60)]
    question = words(20)
    rows = [chat(system, words(12), words(8)) for system in systems for _ in range(5)]
    rows.append(chat(systems[0], f"{question} please", words(8)))
    cases = [golden("asked", systems[0], question), golden("new", systems[1], words(12))]
    found, report = checked_files({"train.jsonl": lines(rows), "golden.jsonl": lines(cases)}, tmp_path)
    assert found.failure is not None
    assert [leak["case"] for leak in report["leaked_passages"]] == ["asked"]
