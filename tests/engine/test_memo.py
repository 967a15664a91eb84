"""The newest result about each object is remembered."""

from collections.abc import Callable
from typing import Any

from tunegate_api.meta import ApiModel
from tunegate_operator.engine.memo import Memo


class Input(ApiModel):
    value: Any = None


def counting(calls: list[str], name: str) -> Callable[[], str]:
    def compute() -> str:
        calls.append(name)
        return name

    return compute


def test_equal_inputs_of_an_object_are_computed_once():
    calls: list[str] = []
    memo: Memo[str] = Memo(8)
    for _ in range(3):
        assert memo.get("uid", ("text", Input(value=1)), counting(calls, "first")) == "first"
    assert calls == ["first"]


def test_other_inputs_or_objects_are_computed_again():
    calls: list[str] = []
    memo: Memo[str] = Memo(8)
    assert memo.get("uid", ("ab", "c"), counting(calls, "first")) == "first"
    assert memo.get("uid", ("a", "bc"), counting(calls, "second")) == "second"
    assert memo.get("other", ("a", "bc"), counting(calls, "third")) == "third"
    assert memo.get("uid", ("ab", "c"), counting(calls, "fourth")) == "fourth", "only the newest is kept"
    assert memo.get("other", ("a", "bc"), counting(calls, "fifth")) == "third"


def test_object_that_was_asked_for_longest_ago_is_forgotten():
    calls: list[str] = []
    memo: Memo[str] = Memo(2)
    for uid in ("a", "b", "a", "c", "a", "b"):
        memo.get(uid, ("text",), counting(calls, uid))
    assert calls == ["a", "b", "c", "b"]


def test_input_that_cannot_be_serialized_is_computed_each_time():
    nested: dict[str, Any] = {}
    for _ in range(400):
        nested = {"properties": nested}
    calls: list[str] = []
    memo: Memo[str] = Memo(2)
    for _ in range(2):
        assert memo.get("uid", (Input(value=nested),), counting(calls, "deep")) == "deep"
    assert calls == ["deep", "deep"]
