"""The table of scorers, by the name that golden sets and task metrics use."""

from collections.abc import Mapping

from tunegate_trainer.graders.exact.exact_match import exact_match
from tunegate_trainer.graders.exact.json_values import json_equals, json_schema
from tunegate_trainer.graders.exact.labels import f1, label
from tunegate_trainer.graders.exact.length import length
from tunegate_trainer.graders.exact.numeric import numeric
from tunegate_trainer.graders.exact.one_by_one import OneByOne, matcher
from tunegate_trainer.graders.exact.refusal import refusal
from tunegate_trainer.graders.exact.rouge import rouge_l, word_f1
from tunegate_trainer.graders.exact.text import contains, equals, not_contains, regex, starts_with
from tunegate_trainer.graders.exact.tool_calls import tool_calls, tool_calls_equal
from tunegate_trainer.graders.grader import Grader

GRADERS: Mapping[str, Grader] = {
    "equals": matcher(equals),
    "starts_with": matcher(starts_with),
    "contains": matcher(contains),
    "not_contains": matcher(not_contains),
    "regex": matcher(regex),
    "label": matcher(label),
    "word_f1": OneByOne(word_f1),
    "length": matcher(length),
    "refusal": matcher(refusal),
    "json_schema": matcher(json_schema),
    "json_equals": matcher(json_equals),
    "tool_calls_equal": matcher(tool_calls_equal),
    "exact_match": matcher(exact_match),
    "f1": OneByOne(f1),
    "rouge_l": OneByOne(rouge_l),
    "numeric": matcher(numeric),
    "tool_calls": matcher(tool_calls),
}
"""Scorers by the type of an expectation in golden sets, or by the name of a task metric. The names
``json_schema``, ``rouge_l`` and ``numeric`` are used for both. The scorer of the task metric ``custom`` is an
entry point, see :mod:`.custom`."""
