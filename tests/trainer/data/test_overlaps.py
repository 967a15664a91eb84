"""Rows that contain most of another row, in either direction, are in one cluster."""

import random

import numpy as np
import pytest

from tunegate_trainer.data.overlaps import join_overlaps
from tunegate_trainer.data.shingles import Template

NO_TEMPLATE = Template.of([])
order = random.Random(0)


def words(count: int) -> str:
    return " ".join(f"word{order.randrange(10**9)}" for _ in range(count))


def clusters(*texts: str, rows: int | None = None, template: Template = NO_TEMPLATE) -> list[int]:
    documents = [(text, "") for text in texts]
    found = join_overlaps(
        documents, len(documents) if rows is None else rows, template, np.arange(len(documents))
    )
    return found.tolist()


@pytest.mark.parametrize("own", [20, 200])
def test_row_within_a_longer_row_is_in_its_cluster(own):
    text = words(40)
    assert clusters(words(60), f"{words(own)} {text}", text) == [0, 1, 1]
    assert clusters(words(60), text, f"{words(own)} {text}") == [0, 1, 1]


def test_rows_with_less_than_half_of_another_row_stay_apart():
    text = words(40)
    assert clusters(f"{words(60)} {text}", f"{text} {words(60)}") == [0, 1]


def test_rows_that_share_most_of_their_text_are_one_cluster():
    texts = [words(100) for _ in range(40)]
    rows = [f"{text} {words(60)}" for text in texts for _ in range(9)]
    assert clusters(*rows) == [i - i % 9 for i in range(len(rows))]


def test_half_of_the_passages_is_enough_for_almost_all_rows():
    texts = [words(62) for _ in range(500)]
    halves = [f"{words(100)} {' '.join(text.split()[:38])}" for text in texts]  # 26 of 50 passages
    found = clusters(*texts, *halves)
    joined = sum(found[500 + i] == i for i in range(500))
    assert joined >= 495


def test_template_does_not_join_rows():
    template = words(100)
    rows = [f"{template} {words(30)}" for _ in range(40)]
    assert clusters(*rows, template=Template.of([(row, "") for row in rows])) == list(range(40))


def test_pair_text_is_not_searched_in_other_pairs():
    text = words(40)
    assert clusters(words(40), text, f"{text} {words(40)}", rows=1) == [0, 1, 2]
    assert clusters(text, f"{text} {words(60)}", rows=1) == [0, 0]


def test_clusters_of_before_stay_joined():
    found = join_overlaps([("a", ""), ("b", ""), ("c", "")], 3, NO_TEMPLATE, np.array([0, 0, 2]))
    assert found.tolist() == [0, 0, 2]
