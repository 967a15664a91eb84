"""An endpoint is asked about the golden set: its answers are judged as those of the artifact, and what is
not known is an error."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from support.chat_server import ChatServerStub, Reply, answer, failing
from support.model_templates import model_templates, tokenizer_for
from support.stores.web_server import Response
from support.tiny_model import make_tokenizer
from support.trainer_root import TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract.process import Role
from tunegate_api.contract.results import Evaluation
from tunegate_api.contract.workspace import endpoint_file
from tunegate_trainer.evaluate.evaluate import CaseResult, SetResult, read_cases
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.subjects import endpoint as endpoint_module
from tunegate_trainer.evaluate.subjects.endpoint import ask_endpoints
from tunegate_trainer.evaluate.subjects.setting import SubjectSetting
from tunegate_trainer.process.interruption import Interrupted, Interruption

pytestmark = pytest.mark.usefixtures("asks_again_at_once")

WEATHER = {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CALLS_WEATHER = {
    "id": "weather",
    "prompt": "Oslo?",
    "tools": TOOLS,
    "expect": [{"type": "tool_calls_equal", "value": [WEATHER]}],
}
SAYS_YES = {"id": "yes", "prompt": "Is it?", "expect": [{"type": "equals", "value": "yes"}]}


@pytest.fixture
def stub() -> Iterator[ChatServerStub]:
    with ChatServerStub() as server:
        yield server


@dataclass(frozen=True)
class Answered:
    evaluation: Evaluation
    by_gate: dict[str, SetResult]


class Asked:
    """Asks the stub about golden cases."""

    def __init__(self, stub: ChatServerStub, path: Path) -> None:
        self.stub, self.path = stub, path
        self.changes: dict[str, str] = {}
        """Changes to the endpoint."""
        self.generation: dict[str, Any] = {}
        """Changes to the settings."""
        self.interruption = Interruption()

    def __call__(
        self,
        cases: list[dict[str, Any]],
        reply: Reply | None = None,
        *,
        template: str | None = None,
        reasoning: str = "Strip",
    ) -> Answered:
        self.stub.reply = reply or self.stub.reply
        spec = gate_spec(
            cases, compareWith=[{"type": "Endpoint", "endpoint": self.stub.endpoint | self.changes}]
        )
        spec["generation"] = {"maxNewTokens": 64, "reasoning": reasoning, **self.generation}
        root = TrainerRoot(self.path, gates={"orders": spec})
        root.write_request()
        context = root.context(Role.GATE, interruption=self.interruption)
        tokenizer = tokenizer_for(model_templates()[template]) if template else make_tokenizer()
        (golden,) = golden_sets(context, tokenizer, context.request.final_gates)
        outputs = self.path / "gate"
        outputs.mkdir(parents=True, exist_ok=True)
        setting = SubjectSetting(
            context,
            "sft",
            tokenizer,
            [golden],
            torch.device("cpu"),
            None,
            sources=[],
            outputs=outputs,
            report=lambda _: None,
        )
        found = ask_endpoints(setting, context.request.final_gates)
        (evaluation,) = found.evaluations
        written = {gate: read_cases(outputs / endpoint_file(gate)) for gate in found.endpoints}
        return Answered(evaluation, {gate: each for gate, each in written.items() if each})

    def only(self, case: dict[str, Any], reply: Response, **options: Any) -> CaseResult:
        """Return the result of a single case, which the server answers with ``reply``."""
        (result,) = self([case], lambda _: reply, **options).by_gate["orders"].cases
        return result

    def problem(self, cases: list[dict[str, Any]], reply: Reply | None = None) -> str:
        """Return why the model was not measured."""
        found = self(cases, reply)
        assert found.by_gate == {}
        assert found.evaluation.outcomes == {}
        return (found.evaluation.problems or {})["golden/orders"]


@pytest.fixture
def asked(stub: ChatServerStub, tmp_path: Path) -> Asked:
    return Asked(stub, tmp_path / "root")


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def test_answers_are_judged_by_the_scorers_of_the_cases(asked):
    found = asked(golden_cases(6), lambda body: "no" if "order 2" in prompt_of(body) else "yes")
    assert found.evaluation.outcomes == {"golden/orders": "ppfppp"}
    assert found.evaluation.problems is None
    cases = found.by_gate["orders"].cases
    assert [case.output for case in cases] == ["yes", "yes", "no", "yes", "yes", "yes"]


def test_case_is_sent_as_its_chat_with_greedy_settings(asked):
    called = {"role": "assistant", "tool_calls": [{"function": WEATHER}]}
    turns = [{"role": "user", "content": "Oslo?"}, called, {"role": "tool", "content": "-3 C"}]
    case = {"id": "cold", "messages": turns, "tools": TOOLS, "expect": SAYS_YES["expect"]}
    asked([case], template="qwen3")
    (body,) = asked.stub.bodies
    assert (body["temperature"], body["max_tokens"], body["tools"]) == (0, 64, TOOLS)
    question, calls, result = body["messages"]
    assert question == {"role": "user", "content": "Oslo?"}
    (call,) = calls["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == WEATHER["arguments"]
    assert result["tool_call_id"] == call["id"]


def test_answer_at_the_limit_of_tokens_is_truncated(asked):
    found = asked.only(SAYS_YES, answer(content="yes", ended="length"))
    assert (found.outcomes["golden"], found.truncated, found.output) == ("t", True, "yes")


def test_sampled_answers_of_the_server_vote_on_a_case(asked):
    order_1 = iter([answer(content="no"), answer(content="yes"), answer(content="no")])

    def reply(body: dict[str, Any]) -> str | Response:
        return next(order_1) if "order 1" in prompt_of(body) else "yes"

    asked.generation = {"samples": {"count": 3, "temperature": "0.7"}}
    assert asked(golden_cases(3), reply).evaluation.outcomes == {"golden/orders": "pfp"}
    assert [body["temperature"] for body in asked.stub.bodies] == [0.7] * 9


def test_case_with_an_unknown_sample_is_an_error(asked):
    order_1 = iter([answer(content="yes"), answer(content="yes"), failing(400, "filtered")])

    def reply(body: dict[str, Any]) -> str | Response:
        return next(order_1) if "order 1" in prompt_of(body) else "yes"

    asked.generation = {"samples": {"count": 3}}
    assert asked(golden_cases(3), reply).evaluation.outcomes == {"golden/orders": "pep"}


@pytest.mark.parametrize("template", ["qwen3", "qwen2_5", "llama3_1", "glm4moe"])
def test_tool_calls_are_compared_as_the_template_renders_them(asked, template):
    function = {"name": "weather", "arguments": json.dumps(WEATHER["arguments"])}
    call = {"id": "chatcmpl-tool-4711", "type": "function", "index": 0, "function": function}
    right = answer(content=None, tool_calls=[call], ended="tool_calls")
    assert asked.only(CALLS_WEATHER, right, template=template).outcomes == {"golden": "p"}
    function["arguments"] = '{"city": "Bergen", "days": 2}'
    wrong = answer(content="", tool_calls=[call], ended="tool_calls")
    assert asked.only(CALLS_WEATHER, wrong, template=template).outcomes == {"golden": "f"}


@pytest.mark.parametrize(
    "call",
    [
        {"function": {"name": "weather", "arguments": '{"city": "Os'}},
        {"function": {"name": "weather", "arguments": '{"city": "\\ud83d"}'}},
        {"function": "weather"},
        "weather",
    ],
)
def test_tool_call_that_cannot_be_rendered_is_an_error(asked, call):
    found = asked.only(CALLS_WEATHER, answer(tool_calls=[call], ended="tool_calls"), template="qwen3")
    assert found.outcomes == {"golden": "e"}
    assert "tool calls that are not names and JSON arguments" in found.explanation


def test_tool_calls_without_a_template_for_them_are_an_error(asked):
    call = {"function": {"name": "weather", "arguments": "{}"}}
    found = asked.only(SAYS_YES, answer(content="yes", tool_calls=[call]))
    assert found.outcomes == {"golden": "e"}
    assert "chat template" in found.explanation


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ({"content": "<think>\nIs it?\n</think>\n\nyes"}, "p"),
        ({"content": "Is it?\n</think>\n\nyes"}, "p"),
        ({"content": "yes", "reasoning_content": "Is it?"}, "p"),
        ({"content": "yes", "reasoning": "Is it?"}, "p"),
        ({"content": "yes"}, "p"),
        ({"content": "<think>\nIs it? yes"}, "f"),
        ({"content": None, "reasoning_content": "Is it? yes"}, "f"),
    ],
)
@pytest.mark.parametrize("template", ["qwen3", "deepseek_r1_distill"])
def test_reasoning_is_removed_with_or_without_a_reasoning_parser(asked, template, message, outcome):
    assert asked.only(SAYS_YES, answer(**message), template=template).outcomes == {"golden": outcome}


def test_kept_reasoning_that_the_server_took_out_is_an_error(asked):
    kept = asked.only(SAYS_YES, answer(content="<think>x</think>yes"), template="qwen3", reasoning="Keep")
    assert (kept.output, kept.outcomes) == ("<think>x</think>yes", {"golden": "f"})
    parsed = answer(content="yes", reasoning_content="x")
    found = asked.only(SAYS_YES, parsed, template="qwen3", reasoning="Keep")
    assert found.outcomes == {"golden": "e"}
    assert "start the server without a reasoning parser" in found.explanation


def test_case_without_an_answer_is_an_error_with_the_reason(asked):
    def reply(body: dict[str, Any]) -> str | Response:
        return failing(400, "too long for this model") if "order 2" in prompt_of(body) else "yes"

    found = asked(golden_cases(4), reply)
    assert found.evaluation.outcomes == {"golden/orders": "ppep"}
    refused = found.by_gate["orders"].cases[2]
    assert "status 400: too long for this model" in refused.explanation


def test_filtered_answer_is_an_error(asked):
    filtered = answer(content="", ended="content_filter")
    found = asked(golden_cases(3), lambda b: filtered if "order 1" in prompt_of(b) else "yes")
    assert found.evaluation.outcomes == {"golden/orders": "pep"}
    assert "finish_reason 'content_filter'" in found.by_gate["orders"].cases[1].explanation


def test_fault_of_the_server_is_retried(asked):
    seen: set[str] = set()

    def reply(body: dict[str, Any]) -> str | Response:
        is_first = prompt_of(body) not in seen
        seen.add(prompt_of(body))
        return failing(503) if is_first else "yes"

    assert asked(golden_cases(5), reply).evaluation.outcomes == {"golden/orders": "ppppp"}


@pytest.mark.parametrize("cases", [1, 8])
def test_server_that_is_down_is_a_problem_of_the_evaluation(asked, cases):
    found = asked.problem(golden_cases(cases), lambda _: failing(503, "no replica is ready"))
    assert found.startswith(
        f"EvalGate orders: spec.compareWith[Endpoint].endpoint: live at {asked.stub.endpoint['url']}"
    )
    assert "status 503: no replica is ready" in found


def test_unreachable_server_is_a_problem_of_the_evaluation(asked):
    asked.changes = {"url": "http://127.0.0.1:9/v1"}
    assert "the connection failed" in asked.problem(golden_cases(6))


def test_refused_access_and_an_unknown_model_are_problems(asked):
    asked.stub.key = "another-key"
    found = asked.problem(golden_cases(6))
    assert "refuses access: the server answered with status 401" in found
    assert "set EvalGate orders: spec.compareWith[Endpoint].endpoint.secretName to a Secret" in found
    asked.stub.key, asked.changes = None, {"model": "old"}
    assert "The model old does not exist" in asked.problem(golden_cases(6))


def test_cases_not_reached_before_the_deadline_are_a_problem(asked, monkeypatch):
    monkeypatch.setattr(endpoint_module, "DEADLINE_SECONDS", 0)
    assert "answered no case: the server did not answer within" in asked.problem(golden_cases(3))


def test_sigterm_ends_the_requests(asked):
    def reply(_: dict[str, Any]) -> str:
        asked.interruption.requested = True
        return "yes"

    with pytest.raises(Interrupted):
        asked(golden_cases(50), reply)
    assert len(asked.stub.bodies) < 50


def test_half_of_a_surrogate_pair_in_an_answer_is_replaced(asked):
    found = asked.only(SAYS_YES, Response(body=b'{"choices": [{"message": {"content": "yes \\ud83d"}}]}'))
    assert found.model_dump_json()
    assert found.output == "yes ?"
