"""The outcome and the explanation of each scorer for single outputs."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_trainer.graders import Grader, Sample, Score
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.exact.json_values import same_json
from tunegate_trainer.graders.exact.one_by_one import OneByOne, matcher
from tunegate_trainer.graders.table import GRADERS, METRICS
from tunegate_trainer.tokens.rows import Row

SCHEMA = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "quantity": {"type": "integer"}},
    "required": ["item", "quantity"],
    "additionalProperties": False,
}


TREE = {"anyOf": [{"type": "null"}, {"type": "object", "additionalProperties": {"$ref": "#"}}]}
DEEP = '{"a":' * 400 + "null" + "}" * 400
BEYOND_PARSING = "[" * 100_000


def rendered(calls: list[FunctionCall]) -> str:
    """Return tool calls as the templates of Qwen render them."""
    return "\n".join(f"<tool_call>\n{call.model_dump_json()}\n</tool_call>" for call in calls)


EXISTS = {"type": "contains", "value": "x"}
CALL = {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}


def judge(text: str, *, scorers: Mapping[str, Grader] = GRADERS, **expectation) -> Score:
    """Score an output by one expectation of a golden case."""
    case = GoldenCase(id="case", prompt="?", expect=[EXISTS])
    reference = expectation["schema" if "schema" in expectation else "value"]
    if expectation["type"] == "tool_calls_equal":
        reference = rendered([FunctionCall(**call) for call in reference])
    elif "json" not in expectation["type"]:
        reference = ExpectedText(reference)
    (score,) = scorers[expectation["type"]].score([Sample("?", text, reference, case)])
    return score


@pytest.mark.parametrize(
    ("expectation", "text", "outcome"),
    [
        ({"type": "equals", "value": "yes"}, " yes\n", "p"),
        ({"type": "equals", "value": "yes"}, "yes.", "f"),
        ({"type": "equals", "value": "yes"}, "Yes", "f"),
        ({"type": "contains", "value": "cannot"}, "I cannot do that", "p"),
        ({"type": "contains", "value": "cannot"}, "I can", "f"),
        ({"type": "not_contains", "value": "Sure"}, "No.", "p"),
        ({"type": "not_contains", "value": "Sure"}, "Sure!", "f"),
        ({"type": "regex", "value": r"^\d+$"}, "42\n", "p"),
        ({"type": "regex", "value": r"^\d+$"}, "42 mugs", "f"),
        ({"type": "regex", "value": "("}, "42", "e"),
        ({"type": "json_schema", "schema": SCHEMA}, '{"item": "mug", "quantity": 2}', "p"),
        ({"type": "json_schema", "schema": SCHEMA}, '{"item": "mug", "quantity": "2"}', "f"),
        ({"type": "json_schema", "schema": SCHEMA}, 'Here: {"item": "mug", "quantity": 2}', "f"),
        (
            {"type": "tool_calls_equal", "value": [CALL]},
            '<tool_call>{"arguments": {"days": 2, "city": "Oslo"}, "name": "weather"}</tool_call>\n',
            "p",
        ),
        (
            {"type": "tool_calls_equal", "value": [CALL]},
            '<tool_call>{"name": "weather", "arguments": {"city": "Oslo", "days": "2"}}</tool_call>',
            "f",
        ),
        (
            {"type": "tool_calls_equal", "value": [CALL]},
            '<tool_call>{"id": "1", "name": "weather", "arguments": {"days": 2.0, "city": "Oslo"}}'
            "</tool_call>",
            "p",
        ),
        ({"type": "tool_calls_equal", "value": [CALL]}, "It is cold.", "f"),
        ({"type": "tool_calls_equal", "value": [CALL]}, '<tool_call>{"name": "weather", ', "f"),
        ({"type": "tool_calls_equal", "value": [CALL, CALL]}, rendered([FunctionCall(**CALL)]), "f"),
        ({"type": "json_schema", "schema": {"type": "no-such-type"}}, "{}", "e"),
        ({"type": "json_schema", "schema": {"$ref": "https://example.invalid/s.json"}}, "{}", "e"),
        ({"type": "json_equals", "value": {"a": 1, "b": [1, 2]}}, '{"b":[1,2],\n"a":1}', "p"),
        ({"type": "json_equals", "value": {"a": 1}}, '{"a": 2}', "f"),
        ({"type": "json_equals", "value": {"a": 1}}, '{"a": 1', "f"),
        ({"type": "json_equals", "value": 1}, "NaN", "f"),
        ({"type": "json_equals", "value": 1}, BEYOND_PARSING, "f"),
        ({"type": "json_schema", "schema": SCHEMA}, BEYOND_PARSING, "f"),
        ({"type": "json_schema", "schema": TREE}, DEEP, "f"),
        ({"type": "json_schema", "schema": {"$ref": "#"}}, "{}", "e"),
    ],
)
def test_output_gets_the_expected_outcome_from_each_expectation_type(expectation, text, outcome):
    assert judge(text, **expectation).outcome == outcome


def test_too_deeply_nested_output_fails_with_an_explanation():
    assert judge(DEEP, type="json_schema", schema=TREE).explanation == "is nested too deeply to be judged"


def test_failed_output_has_an_explanation():
    assert judge("no", type="equals", value="yes").explanation == "is not 'yes'"
    explanation = judge('{"item": 3, "quantity": 2}', type="json_schema", schema=SCHEMA).explanation
    assert explanation == "$.item: 3 is not of type 'string'"
    assert judge("{", type="json_equals", value=1).explanation.startswith("is not JSON: ")


def test_exact_match_compares_tool_calls_if_the_row_has_some():
    calls = [ToolCall(function=FunctionCall(**CALL))]
    row = Row(id="r", prompt=[Message(role="user", content="?")], completion="", tool_calls=calls)
    reference = rendered([call.function for call in calls])
    respaced = reference.replace("\n", "  ")
    plain = row.model_copy(update={"tool_calls": None})
    samples = [Sample("?", respaced, ExpectedText(reference), case) for case in (row, plain)]
    assert [score.outcome for score in METRICS["ExactMatch"].score(samples)] == ["p", "f"]


def test_pattern_that_exceeds_the_time_limit_is_an_error():
    regex = GRADERS["regex"]
    assert isinstance(regex, OneByOne)
    limited = {"regex": replace(regex, seconds=0.2)}
    judged = judge("a" * 40 + "!", type="regex", value=r"^(\w+\s?)*$", scorers=limited)
    assert judged.outcome == "e"
    assert "took more than 0.2 s" in judged.explanation
    assert judge("42", type="regex", value=r"^\d+$", scorers=limited).outcome == "p"


def test_time_limit_counts_cpu_time_not_waiting():
    waiting = replace(matcher(lambda _: time.sleep(0.3)), seconds=0.1)
    assert judge("x", **EXISTS, scorers={"contains": waiting}).outcome == "p"


def test_exception_makes_only_its_own_sample_an_error():
    def broken(sample: Sample) -> str | None:
        if sample.output == "x":
            raise RuntimeError(f"no judge for {sample.output}")
        return None

    case = GoldenCase(id="case", prompt="?", expect=[EXISTS])
    scores = matcher(broken).score([Sample("?", output, "", case) for output in ("y", "x", "z")])
    error = Score("e", "could not be scored: RuntimeError: no judge for x")
    assert scores == [Score("p"), error, Score("p")]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1", "1.0", True),
        ("1", "true", False),
        ("[1, 2]", "[2, 1]", False),
        ("null", "0", False),
        ("0", "false", False),
    ],
)
def test_json_values_are_compared_by_json_types(left, right, same):
    assert same_json(json.loads(left), json.loads(right)) is same


class SchemaServer(BaseHTTPRequestHandler):
    """Answers every request with a schema that accepts everything."""

    requested: list[str] = []

    def do_GET(self) -> None:
        self.requested.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_referenced_schema_is_not_fetched_from_the_network():
    with HTTPServer(("127.0.0.1", 0), SchemaServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        reference = f"http://127.0.0.1:{server.server_port}/schema.json"
        result = judge("{}", type="json_schema", schema={"$ref": reference})
        server.shutdown()
    assert SchemaServer.requested == []
    assert result.outcome == "e"
    assert reference in result.explanation


@pytest.mark.parametrize(
    ("text", "reference", "outcome"),
    [
        ('refund[ARGS]{"id": 7, "name": "Ann"}', 'refund[ARGS]{"id": 5, "name": "Ann"}', "f"),
        ('<function=delete>{"name": "Ann"}', '<function=delete>{"name": "Ann", "id": 5}', "f"),
        ('[{"name": "f", "arguments": {"id": 7}}]', '[{"name": "f", "arguments": {"id": 5}}]', "f"),
        ('{"name": "f", "parameters": {}, "id": "1"}', '{"name": "f", "parameters": {}, "id": "2"}', "p"),
    ],
)
def test_tool_call_id_is_ignored_but_not_argument_id(text, reference, outcome):
    case = GoldenCase(id="case", prompt="?", expect=[EXISTS])
    (score,) = GRADERS["tool_calls_equal"].score([Sample("?", text, reference, case)])
    assert score.outcome == outcome


def test_missing_space_in_a_non_json_tool_argument_fails():
    case = GoldenCase(id="case", prompt="?", expect=[EXISTS])
    reference = "<tool_call>f\n<arg_key>city</arg_key>\n<arg_value>New York</arg_value>\n</tool_call>"
    outputs = [
        "<tool_call>f <arg_key>city</arg_key><arg_value>New  York</arg_value></tool_call>",
        "<tool_call>f <arg_key>city</arg_key><arg_value>NewYork</arg_value></tool_call>",
    ]
    scores = GRADERS["tool_calls_equal"].score([Sample("?", text, reference, case) for text in outputs])
    assert [score.outcome for score in scores] == ["p", "f"]
