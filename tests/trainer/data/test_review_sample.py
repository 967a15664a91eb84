"""The sample of training rows for people depends on content, not on order, and represents labels, groups and
lengths."""

import random
from collections import Counter
from fractions import Fraction

import pytest

from tunegate_api.judging.review_sample import ReviewRow, sample_digest
from tunegate_api.messages import Message
from tunegate_trainer.data.parse import Labelled
from tunegate_trainer.data.records.record import RecordPlace
from tunegate_trainer.data.review_sample import choose_rows, has_sample, write_sample
from tunegate_trainer.data.row_file import RowFile
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import Row

STORED: RowFile[Row] = RowFile()


def measured(
    number: int, completion: str = "", group: str = "", tokens: int = 10, id: str = ""
) -> UsableRow[Row]:
    prompt = [Message(role="user", content=f"order {number}")]
    row = Row(id=id or str(number), prompt=prompt, completion=completion or f"answer {number}")
    labelled = Labelled(
        place=RecordPlace(number),
        group=group or f"order {number}",
        prompt=str(number),
        has_answers=False,
        number=STORED.add(row),
        rows=STORED,
    )
    return UsableRow(labelled, tokens=tokens, learned=5, group=labelled.group, answer=5, position=0)


def chosen(rows: list[UsableRow[Row]], share: str = "0.1") -> list[UsableRow[Row]]:
    return [rows[position] for position in choose_rows(rows, Fraction(share))]


@pytest.mark.parametrize(
    ("count", "share", "size"),
    [(1000, "0.08", 80), (1000, "0.0001", 20), (12, "0.08", 12), (9000, "0.1", 500), (2001, "0.08", 161)],
)
def test_sample_has_its_share_of_rows_within_the_bounds(count, share, size):
    assert len(chosen([measured(n) for n in range(count)], share)) == size


def test_sample_and_digest_do_not_depend_on_row_order(tmp_path):
    numbers = list(range(500))
    rows = [measured(n, "yes" if n % 3 else "no", tokens=n % 40) for n in numbers]
    random.Random(1).shuffle(numbers)
    moved = [
        measured(n, "yes" if n % 3 else "no", tokens=n % 40, id=f"line {line}")
        for line, n in enumerate(numbers)
    ]
    first = write_sample(tmp_path / "a.jsonl", rows, Fraction("0.1"))
    second = write_sample(tmp_path / "b.jsonl", moved, Fraction("0.1"))
    assert second.sha256 == first.sha256
    assert [row.id for row in second.rows] == [row.id for row in first.rows]
    changed = [*rows[:-1], measured(499, completion="maybe")]
    assert write_sample(tmp_path / "c.jsonl", changed, Fraction("0.1")).sha256 != first.sha256


def test_most_of_the_sample_stays_when_rows_are_added():
    rows = [measured(n) for n in range(2000)]
    before = {row.labelled.row.id for row in chosen(rows)}
    after = {row.labelled.row.id for row in chosen([*rows, *(measured(n) for n in range(2000, 2010))])}
    assert len(before & after) > len(before) // 2


def test_each_label_has_its_part_of_the_sample():
    labels = ["invoice"] * 800 + ["complaint"] * 190 + ["praise"] * 10
    rows = [measured(n, completion=label) for n, label in enumerate(labels)]
    found = Counter(row.labelled.row.completion for row in chosen(rows, "0.02"))
    assert found == {"invoice": 16, "complaint": 3, "praise": 1}


def test_each_of_many_labels_is_in_the_sample():
    rows = [measured(n, completion=f"topic {n % 30}") for n in range(900)]
    found = Counter(row.labelled.row.completion for row in chosen(rows))
    assert found == {f"topic {n}": 3 for n in range(30)}


def test_rare_answers_share_one_part_of_the_sample():
    rows = [measured(n, completion="yes" if n % 2 else "No ") for n in range(970)]
    rows += [measured(n, completion=f"oddity {n}") for n in range(970, 1000)]
    found = Counter(row.labelled.row.completion[:3] for row in chosen(rows))
    assert found["odd"] == 3


def test_more_labels_than_rows_in_the_sample_are_ignored():
    rows = [measured(n, completion="yes" if n % 2 else f"topic {n % 60}") for n in range(400)]
    found = Counter(row.labelled.row.completion for row in chosen(rows, "0.01"))
    assert sum(found.values()) == 20
    assert found["yes"] > 4


def test_short_and_long_rows_have_their_part_of_the_sample():
    rows = [measured(n, tokens=n) for n in range(1000)]
    lengths = sorted(row.tokens for row in chosen(rows, "0.05"))
    assert Counter(length // 100 for length in lengths) == dict.fromkeys(range(10), 5)


def test_each_of_few_groups_has_its_part_of_sample():
    rows = [measured(n, group=f"customer {n % 4}", tokens=n % 7) for n in range(400)]
    assert Counter(row.group for row in chosen(rows)) == {f"customer {n}": 10 for n in range(4)}


def test_rows_with_equal_content_are_chosen_once():
    rows = [measured(n % 15, id=f"line {n}") for n in range(300)]
    found = {row.labelled.row.completion for row in chosen(rows)}
    assert len(chosen(rows)) == len(found) == 15


def test_sample_file_matches_its_plan_until_changed_or_removed(tmp_path):
    path = tmp_path / "review" / "sample.jsonl"
    plan = write_sample(path, [measured(n) for n in range(30)], Fraction("0.1"))
    rows = [ReviewRow.model_validate_json(line) for line in path.read_text().splitlines()]
    assert [(row.id, row.row) for row in rows] == [(row.id, row.row) for row in plan.rows]
    assert sample_digest(rows) == plan.sha256
    assert has_sample(path, plan)
    path.write_text(path.read_text().replace("answer", "reply"))
    assert not has_sample(path, plan)
    path.unlink()
    assert not has_sample(path, plan)
