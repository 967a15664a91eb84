"""A text is parsed once while there is room for its result."""

import threading
from collections.abc import Callable

import pytest

from support.waiting import eventually
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.parsed import ParseCache


def counting(calls: list[str], name: str) -> Callable[[], str]:
    def parse() -> str:
        calls.append(name)
        return name

    return parse


def test_text_is_parsed_once() -> None:
    calls: list[str] = []
    parsed: ParseCache[str] = ParseCache(100)
    for name in ("a", "b", "a", "b"):
        assert parsed.get(name, 50, counting(calls, name)) == name
    assert calls == ["a", "b"]


def test_results_that_were_not_used_for_longest_are_dropped() -> None:
    calls: list[str] = []
    parsed: ParseCache[str] = ParseCache(100)
    for name in ("a", "b", "a", "c", "a", "b"):
        parsed.get(name, 50, counting(calls, name))
    assert calls == ["a", "b", "c", "b"]


def test_result_of_a_text_above_the_limit_is_not_kept() -> None:
    calls: list[str] = []
    parsed: ParseCache[str] = ParseCache(100)
    for _ in range(2):
        assert parsed.get("large", 101, counting(calls, "large")) == "large"
    parsed.get("small", 100, counting(calls, "small"))
    parsed.get("small", 100, counting(calls, "small"))
    assert calls == ["large", "large", "small"]


def test_error_is_raised_and_not_remembered() -> None:
    calls: list[str] = []
    parsed: ParseCache[str] = ParseCache(100)

    def fail() -> str:
        raise ValueError("a fault")

    for _ in range(2):
        with pytest.raises(ValueError, match="a fault"):
            parsed.get("a", 100, fail)
    assert parsed.get("a", 100, counting(calls, "a")) == "a"
    assert parsed.get("a", 100, counting(calls, "again")) == "a"


def test_threads_that_ask_at_once_share_one_result() -> None:
    parsed: ParseCache[object] = ParseCache(100)
    started, finish = threading.Event(), threading.Event()
    got: list[object] = []

    def parse() -> object:
        started.set()
        finish.wait(10)
        return object()

    threads = [threading.Thread(target=lambda: got.append(parsed.get("a", 1, parse))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    future = parsed._found["a"][0]
    eventually(lambda: len(future._condition._waiters) == 2, what="two threads wait")  # type: ignore[attr-defined]
    finish.set()
    for thread in threads:
        thread.join(10)
    assert len(got) == 3
    assert len(set(map(id, got))) == 1


def test_cached_object_is_parsed_again_once_it_changed() -> None:
    cache, calls = Cache(), list[str]()
    key = Key("EvalGate", "default", "golden")

    def parse(obj: Object) -> str:
        calls.append(obj["spec"])
        return str(obj["spec"])

    def put(version: int, spec: str) -> None:
        metadata = {"name": "golden", "namespace": "default", "uid": "1", "resourceVersion": str(version)}
        cache.put({"apiVersion": "v1", "kind": "EvalGate", "metadata": metadata, "spec": spec})

    assert cache.parsed(key, parse) is None
    put(1, "first")
    assert [cache.parsed(key, parse) for _ in range(3)] == ["first"] * 3
    put(2, "second")
    assert [cache.parsed(key, parse) for _ in range(3)] == ["second"] * 3
    cache.remove("1")
    assert cache.parsed(key, parse) is None
    assert calls == ["first", "second"]
