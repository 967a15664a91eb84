"""What is left of a list that is full."""

from tunegate_operator.children.child_jobs import newest


def test_the_newest_of_each_kind_outlives_newer_ones_of_another():
    assert newest(["a1", "b1", "b2", "b3"], 3, key=lambda item: item[0]) == ["a1", "b2", "b3"]


def test_what_fits_stays_as_it_is():
    assert newest(["b1", "a1", "b2"], 3, key=lambda item: item[0]) == ["b1", "a1", "b2"]


def test_of_too_many_kinds_the_newest_are_left():
    assert newest(["a1", "b1", "c1"], 2, key=lambda item: item[0]) == ["b1", "c1"]
