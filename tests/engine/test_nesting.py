"""Deeply nested JSON can be read, although Python's parsers recurse."""

import json
from typing import Any

import pytest

from support.manifests import changed, finetunejob
from tunegate_api.validation.problems import find_problems
from tunegate_api.validation.spec_size import MAX_SPEC_LEVELS
from tunegate_operator.engine.nesting import MAX_LEVELS, shallow
from tunegate_operator.engine.objects import read_json
from tunegate_operator.engine.prune import prune

MOST_STORED = 10_000
"""The most levels that an API server accepts."""


def nested(levels: int, inner: str = "1") -> str:
    """Return JSON with ``inner`` in so many levels of mappings, and lists in these."""
    mappings = levels // 2
    lists = levels - mappings
    return '{"a":' * mappings + "[" * lists + inner + "]" * lists + "}" * mappings


def levels_of(value: Any) -> int:
    levels = 0
    while isinstance(value, dict | list):
        levels += 1
        value = next(iter(value.values() if isinstance(value, dict) else value), None)
    return levels


@pytest.mark.parametrize("levels", [1, MAX_LEVELS])
def test_json_with_few_levels_is_unchanged(levels: int) -> None:
    text = nested(levels, '"]}\\"{["').encode()
    assert shallow(text) == text
    assert levels_of(read_json(text)) == levels


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 1_100, MOST_STORED])
def test_only_what_is_nested_too_deeply_is_left_out(levels: int) -> None:
    deep = nested(levels, '"]}\\"{["')
    read = read_json(
        f'{{"first": 1, "deep": {deep}, "text": "}}\\\\", "again": [{deep}], "last": 2}}'.encode()
    )
    assert (read["first"], read["text"], read["last"]) == (1, "}\\", 2)
    assert levels_of(read["deep"]) == MAX_LEVELS - 1
    assert levels_of(read["again"]) == MAX_LEVELS - 1


def test_incomplete_json_with_many_levels_is_invalid() -> None:
    for text in ('{"a":' * MOST_STORED, nested(MOST_STORED)[:-1], "}" * MOST_STORED, '"' + "[" * MOST_STORED):
        with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter|double quotes"):
            read_json(text.encode())


@pytest.mark.parametrize("levels", [MAX_SPEC_LEVELS + 1, MAX_LEVELS, 1_100, MOST_STORED])
def test_spec_with_too_many_levels_is_a_problem_and_dropped(levels: int) -> None:
    """Its fields podTemplate and affinity are two of the levels."""
    manifest = changed(finetunejob(), {"spec.podTemplate.affinity": "DEEP"})
    page = json.dumps({"items": [manifest, finetunejob()]}).replace('"DEEP"', nested(levels - 2))
    deep, other = read_json(page.encode())["items"]
    small, text = prune(deep)
    assert len(text) < 1024
    (problem,) = find_problems(small)
    assert problem.where == "spec"
    assert f"nested in more than {MAX_SPEC_LEVELS} levels" in problem.message
    assert find_problems(deep) == [problem]
    assert find_problems(other) == []


def test_spec_with_as_many_levels_as_allowed_is_kept() -> None:
    manifest = changed(finetunejob(), {"spec.podTemplate.affinity": "DEEP"})
    text = json.dumps(manifest).replace('"DEEP"', nested(MAX_SPEC_LEVELS - 2))
    obj = read_json(text.encode())
    assert prune(obj)[0]["spec"] == obj["spec"]
