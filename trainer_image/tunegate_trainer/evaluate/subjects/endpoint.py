"""Ask the models that are live now for their outputs on today's golden sets, and judge them."""

import json
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Evaluation, Subject, golden_set
from tunegate_api.contract.workspace import endpoint_file
from tunegate_api.duration import duration_text
from tunegate_api.messages import FunctionCall, ToolCall
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_api.v1alpha2.evalgate import Generation
from tunegate_api.verdict.outcomes import ERROR
from tunegate_trainer.artifacts.gate_result import EndpointOutputs
from tunegate_trainer.evaluate.endpoint_server import endpoint_server
from tunegate_trainer.evaluate.evaluate import CaseResult, SetResult, judge_outputs, write_cases
from tunegate_trainer.evaluate.generate import stripped
from tunegate_trainer.evaluate.sets import GOLDEN, Case, GeneratedSet
from tunegate_trainer.evaluate.subjects.setting import SubjectAnswers, SubjectSetting
from tunegate_trainer.graders import Output
from tunegate_trainer.graders.server.asking import Asking
from tunegate_trainer.graders.server.chat_server import ChatServer, ServerCompletion
from tunegate_trainer.graders.server.chats import chat_messages
from tunegate_trainer.graders.server.faults import Fault, FaultError
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError, UnreachableError, UserError
from tunegate_trainer.process.files import sha256_file
from tunegate_trainer.tokens.answers import calls_text
from tunegate_trainer.tokens.reasoning import reasoning_marks

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 3600
"""Maximum time for the golden set of one gate, because the pod holds a GPU meanwhile. Cases without an answer
by then are errors."""
_REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Fields in which servers with a reasoning parser return the reasoning."""


def ask_endpoints(setting: SubjectSetting, gates: Sequence[GateRequest]) -> SubjectAnswers:
    """Ask the endpoint of each gate about the gate's golden set, and judge its outputs as those of the
    artifact.

    If a server does not answer, or refuses access, the evaluation has the reason in ``problems``. Raises
    :class:`Interrupted` after SIGTERM.
    """
    setting.report("asking the endpoint")
    results: dict[str, SetResult] = {}
    problems: dict[str, str] = {}
    sets = {each.names[GOLDEN]: each for each in setting.golden}
    for gate in gates:
        name = golden_set(gate.name)
        if gate.spec.endpoint and name in sets:
            try:
                asked = _AskedEndpoint(setting.context, gate, gate.spec.endpoint)
                results[gate.name] = asked.evaluate(setting.tokenizer, sets[name])
            except TrainerError as error:
                hint = f" ({error.hint})" if error.hint else ""
                problems[name] = f"{error}{hint}"
                logger.warning("the endpoint was not measured: %s", error)
    evaluation = Evaluation(
        subject=Subject.ENDPOINT,
        stage=setting.stage,
        step=0,
        outcomes={golden_set(gate): result.outcomes(GOLDEN) for gate, result in results.items()},
        problems=problems or None,
        seconds=round(sum(result.seconds for result in results.values()), 3),
        time=datetime.now(UTC).replace(microsecond=0),
    )
    setting.check()
    answered = [gate for gate in gates if gate.name in results]
    outputs = {gate.name: _write(setting.outputs, gate, results[gate.name]) for gate in answered}
    return SubjectAnswers([evaluation], endpoints={name: each for name, each in outputs.items() if each})


class _AskedEndpoint:
    """The endpoint of a gate."""

    def __init__(self, context: Context, gate: GateRequest, endpoint: Endpoint) -> None:
        self._interruption = context.interruption
        self._generation = gate.spec.generation
        self._name = f"endpoint {endpoint.model}"
        self._server = endpoint_server(context, endpoint, gate)

    def evaluate(self, tokenizer: PreTrainedTokenizerBase, golden: GeneratedSet) -> SetResult:
        """Return the results of all cases. A case is an error if one of its outputs is unknown. Raises
        :class:`TrainerError` if no case has an answer."""
        start, samples = time.monotonic(), self._generation.samples
        by_case = [
            [
                _CaseQuestion(case, self._server, self._generation)
                for _ in range(samples.count if samples else 1)
            ]
            for case in golden.cases
        ]
        questions = [question for each in by_case for question in each]
        with self._interruption.deferred():
            self._ask(questions)
        self._interruption.check()
        if not any(question.completion for question in questions):
            raise UnreachableError(
                f"{self._server.field}: {self._server} answered no case: {questions[0].problem}"
            )
        cases = _results(tokenizer, by_case, self._generation)
        passed = sum(case.passed for case in cases)
        logger.info("%s: %d/%d passed", self._name, passed, len(cases))
        return SetResult(cases=cases, seconds=round(time.monotonic() - start, 3))

    def _ask(self, questions: list["_CaseQuestion"]) -> None:
        asking = Asking(
            self._server,
            self._interruption,
            name=self._name,
            noun="cases",
            done="answered",
            seconds=DEADLINE_SECONDS,
        )
        asking.ask_all(questions, "requests")


class _CaseQuestion:
    """A golden case as a question to a server."""

    def __init__(self, case: Case, server: ChatServer, generation: Generation) -> None:
        self.case = case
        self.completion: ServerCompletion | None = None
        self.problem = f"the server did not answer within {duration_text(DEADLINE_SECONDS)}"
        """Why there is no completion."""
        self._server = server
        self._generation = generation

    def __str__(self) -> str:
        return f"case {self.case.id}"

    async def ask(self) -> None:
        golden, samples = _golden_case(self.case), self._generation.samples
        found = await self._server.complete(
            chat_messages(golden.turns),
            self._generation.max_new_tokens,
            golden.tools,
            float(samples.temperature) if samples else 0,
        )
        if found.ended not in ("stop", "length", "tool_calls", None):
            reason = repr(found.ended)[:40]
            raise FaultError(Fault.REFUSED, f"the server ended the answer with finish_reason {reason}")
        if not isinstance(found.message.get("content"), str) and not _fields_beside_content(found):
            raise FaultError(Fault.MALFORMED, "the answer has no text")
        # Without halves of surrogate pairs, which UTF-8 cannot encode.
        message = json.dumps(found.message, ensure_ascii=False).encode("utf-8", "replace")
        self.completion = ServerCompletion(json.loads(message), found.ended)

    def note(self, error: FaultError) -> None:
        self.problem = str(error)


def _golden_case(case: Case) -> GoldenCase:
    if not isinstance(case.source, GoldenCase):
        raise TypeError(f"{case.id} is not a golden case")
    return case.source


def _fields_beside_content(completion: ServerCompletion) -> list[str]:
    """Return the names of the fields with tool calls and reasoning that an answer has."""
    return [name for name in ("tool_calls", *_REASONING_FIELDS) if completion.message.get(name)]


def _results(
    tokenizer: PreTrainedTokenizerBase, by_case: Sequence[Sequence[_CaseQuestion]], generation: Generation
) -> list[CaseResult]:
    """Return the results of the cases. ``by_case`` has a question for each output of a case."""
    known: dict[str, tuple[Case, list[Output]]] = {}
    found: dict[str, CaseResult] = {}
    for questions in by_case:
        case = questions[0].case
        try:
            known[case.id] = case, [_output(tokenizer, question, generation) for question in questions]
        except UserError as error:
            found[case.id] = _unmeasured(case, str(error))
    cases, outputs = [case for case, _ in known.values()], [each for _, each in known.values()]
    found |= {result.id: result for result in judge_outputs(cases, outputs, generation.samples)}
    return [found[questions[0].case.id] for questions in by_case]


def _unmeasured(case: Case, problem: str) -> CaseResult:
    return CaseResult(
        id=case.id,
        tags=list(case.tags),
        prompt=case.shown,
        output="",
        truncated=False,
        passed=False,
        outcomes={GOLDEN: ERROR},
        explanation=f"the endpoint was not measured: {problem}",
    )


def _output(tokenizer: PreTrainedTokenizerBase, question: _CaseQuestion, generation: Generation) -> Output:
    """Return the output as a scorer gets it if the artifact generates the same answer. Raises
    :class:`UserError` if it cannot be known."""
    completion = question.completion
    if completion is None:
        raise UserError(question.problem)
    text = completion.message.get("content") or ""
    fields = _fields_beside_content(completion)
    if generation.reasoning == "Keep" and set(fields) & set(_REASONING_FIELDS):
        raise UserError(
            "generation.reasoning is Keep, but the server returns the reasoning in a field of its own: start "
            "the server without a reasoning parser"
        )
    # More tokens may end the reasoning, or may be tool calls, which the server puts in a field of their own.
    may_change = bool(fields) or _golden_case(question.case).tools is not None
    if generation.reasoning == "Strip" and (marks := reasoning_marks(tokenizer)):
        may_change = may_change or marks.closes not in text
        # Without the prompt: the server may have removed the reasoning that the prompt opens.
        answer = stripped(tokenizer, marks, None, text)
        text = text if answer is None else answer
    if completion.ended == "length":
        return Output(text, truncated=True, settled=0 if may_change else None)
    if "tool_calls" in fields:
        text = _with_calls(tokenizer, _golden_case(question.case), completion.message["tool_calls"], text)
    return Output(text, truncated=False)


def _with_calls(tokenizer: PreTrainedTokenizerBase, case: GoldenCase, calls: Any, text: str) -> str:
    """Return the text of an answer with tool calls, as the chat template renders them. The ids of the calls
    are left out: they are random, and templates accept only some."""
    try:
        functions = [call["function"] for call in calls]
        parsed = [
            ToolCall(function=FunctionCall(name=each["name"], arguments=each.get("arguments") or {}))
            for each in functions
        ]
        json.dumps([call.function.arguments for call in parsed], ensure_ascii=False).encode()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError("the server returned tool calls that are not names and JSON arguments") from error
    return calls_text(tokenizer, case.turns, parsed, case.tools, text)


def _write(folder: Path, gate: GateRequest, result: SetResult) -> EndpointOutputs | None:
    """Write the outputs of the endpoint of ``gate`` into ``folder``. Return the digest of the file."""
    endpoint, path = gate.spec.endpoint, folder / endpoint_file(gate.name)
    if endpoint is None:
        return None
    write_cases(path, result)
    return EndpointOutputs(url=endpoint.url, model=endpoint.model, sha256=sha256_file(path))
