"""Rows that share much of their text stay in one split, so that clean data is not refused."""

import random

import pytest

from support.checked_files import checked_files
from support.data_faults.clean import jsonl

order = random.Random(0)


def words(count: int) -> str:
    return " ".join(f"word{order.randrange(10**9)}" for _ in range(count))


@pytest.mark.parametrize("own", [20, 80])
def test_rows_that_share_half_of_their_text_are_accepted(tmp_path, own):
    shared = [words(100) for _ in range(60)]
    rows = [{"prompt": f"{text} {words(own)}", "completion": words(3)} for text in shared for _ in range(5)]
    order.shuffle(rows)
    found, report = checked_files({"train.jsonl": jsonl(rows)}, tmp_path)
    assert found.failure is None
    assert report["groups"] == 60
    assert min(report["split"]["dev"], report["split"]["test"]) >= 9


def test_row_that_contains_another_row_gets_its_split(tmp_path):
    rows = [{"prompt": words(40), "completion": words(10)} for _ in range(200)]
    longer = [
        {"prompt": f"{words(90)} {row['prompt']} {row['completion']}", "completion": words(20)}
        for row in rows[:100]
    ]
    found, report = checked_files({"train.jsonl": jsonl([*rows, *longer])}, tmp_path)
    assert found.failure is None
    assert report["groups"] == 200
