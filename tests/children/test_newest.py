"""Which items stay in a full list."""

from tunegate_operator.children.child_jobs import newest


def test_newest_item_of_each_key_outlives_newer_items_of_others():
    assert newest(["a1", "b1", "b2", "b3"], 3, key=lambda item: item[0]) == ["a1", "b2", "b3"]


def test_list_that_fits_is_unchanged():
    assert newest(["b1", "a1", "b2"], 3, key=lambda item: item[0]) == ["b1", "a1", "b2"]


def test_newest_keys_are_kept_when_there_are_too_many():
    assert newest(["a1", "b1", "c1"], 2, key=lambda item: item[0]) == ["b1", "c1"]
