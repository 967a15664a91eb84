"""In a classification task, dev and test have rows with each label, and groups stay in one split."""

import json
import random
import tracemalloc

import pytest

from support.checked_files import checked_files
from support.usable_rows import measured_rows
from tunegate_trainer.data.labels import label_strata
from tunegate_trainer.data.split import normalize, text_key

order = random.Random(0)
COUNTS = {"spam": 250, "ham": 40, "phish": 10}


@pytest.mark.parametrize("seed", range(3))
def test_each_label_of_ten_rows_is_in_dev_and_test(tmp_path, seed):
    order = random.Random(seed)
    rows = [
        {"prompt": " ".join(f"word{order.randrange(10**9)}" for _ in range(20)), "completion": label}
        for label, count in COUNTS.items()
        for _ in range(count)
    ]
    order.shuffle(rows)
    label_of = {text_key(normalize(row["prompt"])): row["completion"] for row in rows}
    checked_files({"train.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}, tmp_path)
    sides = json.loads((tmp_path / "checked" / "sides.json").read_text())
    for side in ("dev", "test"):
        assert {label_of[key] for key in sides[side]} == COUNTS.keys()


@pytest.mark.slow
def test_near_copies_of_many_labels_are_held_out(tmp_path):
    rows = [
        {"prompt": f"{text} edited {i}", "completion": f"label {label % 20}"}
        for label in range(160)
        for text in [" ".join(f"word{order.randrange(10**9)}" for _ in range(40))]
        for i in range(12)
    ]
    found, report = checked_files({"train.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}, tmp_path)
    assert found.failure is None
    assert report["groups"] == 160
    assert min(report["split"]["dev"], report["split"]["test"]) >= 58


def test_group_has_the_most_frequent_label_of_its_rows():
    rows = measured_rows(
        {"prompt": "a", "completion": "yes"},
        {"prompt": "a", "completion": " No"},
        {"prompt": "a", "completion": "no"},
        {"prompt": "b", "completion": "yes"},
        {"prompt": "c", "completion": "a long answer that is no label, because it has many words"},
    )
    strata = label_strata(rows, {"yes": 2, "no": 2})
    groups = [row.group for row in rows]
    assert strata == {groups[0]: "no", groups[3]: "yes"}
    assert label_strata(rows, None) == {}


def test_labels_of_a_million_groups_fit_in_memory():
    rows = measured_rows(*({"prompt": f"{i}", "completion": f"label {i % 3}"} for i in range(4000)))
    tracemalloc.start()
    strata = label_strata(rows, {"label 0", "label 1", "label 2"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(strata) == 4000
    assert peak < 150 * len(strata)  # 150 MB for a million
