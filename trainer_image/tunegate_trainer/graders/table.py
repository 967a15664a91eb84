"""The tables of graders: of the expectations in golden sets, and of task metrics."""

from collections.abc import Mapping

from tunegate_trainer.graders.exact import cut_off
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
    "equals": matcher(equals, cut_off.equals_outlook),
    "starts_with": matcher(starts_with, cut_off.starts_with_outlook),
    "contains": matcher(contains, cut_off.contains_outlook),
    "not_contains": matcher(not_contains, cut_off.not_contains_outlook),
    "regex": matcher(regex),
    "label": matcher(label, cut_off.label_outlook),
    "word_f1": OneByOne(word_f1, outlook=cut_off.word_f1_outlook),
    "length": matcher(length, cut_off.length_outlook),
    "refusal": matcher(refusal, cut_off.refusal_outlook),
    "json_schema": matcher(json_schema, cut_off.json_outlook),
    "json_equals": matcher(json_equals, cut_off.json_outlook),
    "tool_calls_equal": matcher(tool_calls_equal, cut_off.tool_calls_equal_outlook),
    "rouge_l": OneByOne(rouge_l, outlook=cut_off.rouge_l_outlook),
    "numeric": matcher(numeric, cut_off.numeric_outlook),
}
"""Graders by the type of an expectation in golden sets. Those of servers are built for each gate, see
:mod:`.gate_servers`."""

METRICS: Mapping[str, Grader] = {
    "ExactMatch": matcher(exact_match, cut_off.exact_match_outlook),
    "F1": OneByOne(f1),
    "JSONSchema": GRADERS["json_schema"],
    "Numeric": GRADERS["numeric"],
    "RougeL": GRADERS["rouge_l"],
    "ToolCalls": matcher(tool_calls),
}
"""Graders by the type of a task metric. The grader of ``Custom`` is an entry point, see :mod:`.custom`."""
