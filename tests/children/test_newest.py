"""The items that ``newest`` keeps if there are more than the limit."""

from tunegate_operator.children.child_jobs import newest


def test_truncation_keeps_the_newest_item_of_each_key():
    assert newest(["a1", "b1", "b2", "b3"], 3, key=lambda item: item[0]) == ["a1", "b2", "b3"]


def test_list_within_the_limit_is_unchanged():
    assert newest(["b1", "a1", "b2"], 3, key=lambda item: item[0]) == ["b1", "a1", "b2"]


def test_truncation_keeps_the_newest_keys_if_there_are_too_many():
    assert newest(["a1", "b1", "c1"], 2, key=lambda item: item[0]) == ["b1", "c1"]
