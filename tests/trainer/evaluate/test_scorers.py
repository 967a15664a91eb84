"""Pass or fail of one output."""

import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from pydantic import TypeAdapter

from tunegate_api.judging.golden import Expectation, FunctionCall
from tunegate_trainer.evaluate import scorers
from tunegate_trainer.evaluate.scorers import (
    Output,
    Score,
    calls_scorer,
    exact_match_scorer,
    expectation_scorer,
    same_json,
    schema_scorer,
    score,
)

SCHEMA = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "quantity": {"type": "integer"}},
    "required": ["item", "quantity"],
    "additionalProperties": False,
}


TREE = {"anyOf": [{"type": "null"}, {"type": "object", "additionalProperties": {"$ref": "#"}}]}
DEEP = '{"a":' * 400 + "null" + "}" * 400
BEYOND_PARSING = "[" * 100_000


def written(calls: list[FunctionCall]) -> str:
    """Calls as Qwen's templates write them."""
    return "\n".join(f"<tool_call>\n{call.model_dump_json()}\n</tool_call>" for call in calls)


CALL = {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}


def judge(text: str, *, allow_empty: bool = False, **expectation) -> Score:
    parsed = TypeAdapter(Expectation).validate_python(expectation)
    scorer = expectation_scorer(parsed, allow_empty=allow_empty, calls=written)
    return score(Output(text, truncated=False), [scorer])


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
        ({"type": "not_contains", "value": "Sure"}, "", "f"),
        ({"type": "not_contains", "value": "Sure"}, " \n", "f"),
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
        ({"type": "tool_calls_equal", "value": [CALL, CALL]}, written([FunctionCall(**CALL)]), "f"),
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
def test_an_expectation_passes_or_fails(expectation, text, outcome):
    assert judge(text, **expectation).outcome == outcome


def test_empty_output_passes_not_contains_where_the_case_allows_it():
    asked = {"type": "not_contains", "value": "Sure"}
    assert judge("", **asked).explanation == "is empty, which the case does not allow"
    assert judge("", allow_empty=True, **asked).outcome == "p"
    assert judge("Sure", allow_empty=True, **asked).outcome == "f"


def test_output_that_is_too_deep_says_so():
    assert judge(DEEP, type="json_schema", schema=TREE).explanation == "is nested too deeply to be judged"


def test_a_failure_is_explained():
    assert judge("no", type="equals", value="yes").explanation == "is not 'yes'"
    explanation = judge('{"item": 3, "quantity": 2}', type="json_schema", schema=SCHEMA).explanation
    assert explanation == "$.item: 3 is not of type 'string'"
    assert judge("{", type="json_equals", value=1).explanation.startswith("is not JSON: ")


def test_a_truncated_output_never_passes():
    assert score(Output("yes", truncated=True), [exact_match_scorer("yes")]).outcome == "t"


def test_all_expectations_must_hold():
    both = [exact_match_scorer("yes"), schema_scorer({"type": "string"})]
    assert score(Output('"yes"', truncated=False), both).outcome == "f"


def test_a_pattern_that_takes_for_ever_is_an_error_and_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(scorers, "SCORE_SECONDS", 0.2)
    judged = judge("a" * 40 + "!", type="regex", value=r"^(\w+\s?)*$")
    assert judged.outcome == "e"
    assert "took more than 0.2 s" in judged.explanation
    assert judge("42", type="regex", value=r"^\d+$").outcome == "p"


def test_a_process_that_has_to_wait_for_its_turn_judges_as_any_other(monkeypatch):
    monkeypatch.setattr(scorers, "SCORE_SECONDS", 0.1)

    def paused(_: str) -> None:
        time.sleep(0.3)

    assert score(Output("x", truncated=False), [paused]).outcome == "p"


def test_a_scorer_that_raises_is_an_error_and_no_failure():
    def broken(text: str) -> str | None:
        raise RuntimeError(f"no judge for {text}")

    result = score(Output("x", truncated=False), [broken])
    assert result == Score("e", "could not be scored: RuntimeError: no judge for x")


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
def test_json_values_are_compared_as_json_does(left, right, same):
    assert same_json(json.loads(left), json.loads(right)) is same


class SchemaServer(BaseHTTPRequestHandler):
    """Answers every request with a schema that everything follows."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Keep the log of the tests to what they say."""


def test_a_schema_is_not_fetched_from_the_network():
    with HTTPServer(("127.0.0.1", 0), SchemaServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        reference = f"http://127.0.0.1:{server.server_port}/schema.json"
        result = judge("{}", type="json_schema", schema={"$ref": reference})
        server.shutdown()
    assert SchemaServer.asked == []
    assert result.outcome == "e"
    assert reference in result.explanation


def test_calls_in_another_form_than_json_differ_by_their_spaces_within():
    judged = calls_scorer(
        "<tool_call>f\n<arg_key>city</arg_key>\n<arg_value>New York</arg_value>\n</tool_call>"
    )
    assert judged("<tool_call>f <arg_key>city</arg_key><arg_value>New  York</arg_value></tool_call>") is None
    assert (
        judged("<tool_call>f <arg_key>city</arg_key><arg_value>NewYork</arg_value></tool_call>") is not None
    )
