"""The format of golden sets: JSON Lines of cases with known expected behaviour, pass or fail, no ratings."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tunegate_api.judging.verdict import MAX_CASES, CaseSet
from tunegate_api.meta import ApiModel, summarize
from tunegate_api.v1alpha1.evalgate import CaseId, Thresholds
from tunegate_api.validation.json_schema import schema_faults
from tunegate_api.validation.partial import Problem


def _parsed(arguments: object) -> object:
    """Arguments as a mapping. OpenAI's API has them as a text with JSON in it."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a text that is not JSON: {error}") from None


class FunctionCall(ApiModel):
    """A function that is called."""

    name: Annotated[str, Field(min_length=1)]
    """Its name."""
    arguments: Annotated[dict[str, Any], BeforeValidator(_parsed)] = {}
    """Its arguments: a mapping, or a text with one as JSON."""


class ToolCall(ApiModel):
    """A call of a tool, in OpenAI's form."""

    id: str | None = None
    """What a tool's answer names."""
    type: Literal["function"] = "function"
    """What is called."""
    function: FunctionCall
    """The function."""


class Message(ApiModel):
    """One turn of a chat, in OpenAI's form."""

    role: Literal["system", "user", "assistant", "tool"]
    """Who speaks."""
    content: str = ""
    """What is said. An assistant that calls tools may say nothing."""
    reasoning_content: Annotated[str | None, Field(alias="reasoning_content")] = None
    """What an assistant thought before it said this."""
    tool_calls: Annotated[list[ToolCall] | None, Field(alias="tool_calls", min_length=1, max_length=64)] = (
        None
    )
    """The tools that an assistant calls."""
    tool_call_id: Annotated[str | None, Field(alias="tool_call_id")] = None
    """Which call a tool answers."""
    name: str | None = None
    """The name of a tool that answers."""

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        """OpenAI's API says null where an assistant only calls tools."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if value is not None}
        return given

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise ValueError("content is missing")
        for field, role in _OF_ROLE.items():
            if getattr(self, field) is not None and self.role != role:
                raise ValueError(f"{field} is a field of the {role}, this is a turn of the {self.role}")
        return self


_OF_ROLE = {
    "reasoning_content": "assistant",
    "tool_calls": "assistant",
    "tool_call_id": "tool",
    "name": "tool",
}


class TextExpectation(ApiModel):
    """The output, white space at its ends apart, against a text."""

    type: Literal["equals", "contains", "not_contains", "regex"]
    """How to compare."""
    value: Annotated[str, Field(min_length=1)]
    """The text; for regex a Python pattern that must be found somewhere in the output."""


class SchemaExpectation(ApiModel):
    """The output is JSON and follows a JSON schema."""

    type: Literal["json_schema"]
    """How to compare."""
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    """The JSON schema."""


class JsonExpectation(ApiModel):
    """The output is JSON and equal to a value, whatever its spacing and order of keys."""

    type: Literal["json_equals"]
    """How to compare."""
    value: Any
    """The value. 1 and 1.0 are the same number; 1 and true are not the same value."""


class CallsExpectation(ApiModel):
    """The model calls just these tools, in this order. What its reasoning says does not count."""

    type: Literal["tool_calls_equal"]
    """How to compare."""
    value: Annotated[list[FunctionCall], Field(min_length=1, max_length=64)]
    """The calls. Numbers, texts and lists of arguments must be equal; the order of their names does not count
    where the model writes them as JSON."""


Expectation = Annotated[
    TextExpectation | SchemaExpectation | JsonExpectation | CallsExpectation, Field(discriminator="type")
]


def _judgeable(expectation: Expectation) -> Expectation:
    """Refuse what no output could be judged by, before a model is trained for it."""
    faults = "; ".join(_faults(expectation))
    if faults:
        raise PydanticCustomError("judgeable", "{faults}", {"faults": faults})
    return expectation


def _faults(expectation: Expectation) -> Iterator[str]:
    if isinstance(expectation, SchemaExpectation):
        for path, fault in schema_faults(expectation.schema_):
            yield f"{'.'.join(str(name) for name in ('schema', *path))}: {fault}"
    elif expectation.type == "regex":
        try:
            re.compile(expectation.value)
        except (re.error, OverflowError, RecursionError) as error:
            yield f"value: is no Python pattern: {error}"


_OF_FUNCTION = ("name", "description", "parameters")


def _in_order(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool with its fields in the order in which servers give them to a chat template, which may write them
    as they come."""
    function = tool.get("function")
    has_all = isinstance(function, dict) and all(function.get(name) for name in _OF_FUNCTION)
    if not isinstance(function, dict) or not has_all or tool.get("type") != "function":
        raise ValueError("must be {type: function, function: {name, description, parameters}}")
    others = sorted((tool.keys() - {"type", "function"}) | (function.keys() - set(_OF_FUNCTION)))
    if others:
        raise ValueError(f"has {', '.join(others)}, which not every server gives to a template: leave it out")
    return {"type": "function", "function": {name: function[name] for name in _OF_FUNCTION}}


Tools = Annotated[
    list[Annotated[dict[str, Any], AfterValidator(_in_order)]], Field(min_length=1, max_length=128)
]
"""Functions that a model may call, in OpenAI's form."""


class GoldenCase(ApiModel):
    """One prompt and what its output must be. All expectations must hold."""

    id: CaseId
    """Names the case in status and reports. Unique in its set."""
    tags: list[CaseId] = []
    """Groups of cases that thresholds can speak of."""
    prompt: str | None = None
    """One user turn."""
    messages: Annotated[list[Message] | None, Field(min_length=1)] = None
    """A chat that the model answers."""
    tools: Tools | None = None
    """Functions that the model may call, in OpenAI's form: {type: function, function: {name, description,
    parameters}}."""
    expect: Annotated[list[Annotated[Expectation, AfterValidator(_judgeable)]], Field(min_length=1)]
    """What must hold of the output."""
    allow_empty: bool = False
    """Whether an empty output passes `not_contains`. Left out: it fails, as a model that answers nothing is
    broken rather than safe."""

    @model_validator(mode="after")
    def _one_input(self) -> "GoldenCase":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self

    @property
    def turns(self) -> list[Message]:
        """The chat to answer, whichever way it was written."""
        return self.messages or [Message(role="user", content=self.prompt or "")]


class GoldenError(ValueError):
    """A golden set that cannot be judged by. ``problems`` has one line for each fault, all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(summarize(self.problems, 5, separator="; "))


def parse_golden(text: str) -> list[GoldenCase]:
    """The cases of a golden set. Blank lines are skipped.

    Raises :class:`GoldenError` naming each bad line, each id used twice, an empty or an oversized set.
    """
    cases: list[GoldenCase] = []
    problems: list[str] = []
    lines_by_id: dict[str, int] = {}
    # Not splitlines(), which would also cut at U+2028 and the like inside a JSON text.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            case = GoldenCase.model_validate(json.loads(line))
            json.dumps(case.to_wire(), ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            problems.append(f"line {number}: not JSON ({error.msg} at column {error.colno})")
            continue
        except UnicodeEncodeError:
            problems.append(f"line {number}: half of a surrogate pair, which is no character")
            continue
        except RecursionError:
            problems.append(f"line {number}: nested too deeply to be read")
            continue
        except ValidationError as error:
            problems += [
                f"line {number}: {'.'.join(str(p) for p in e['loc']) or 'case'}: {e['msg']}"
                for e in error.errors()
            ]
            continue
        except ValueError as error:  # JSON, but with a number beyond what can be read
            problems.append(f"line {number}: cannot be read: {error}")
            continue
        if case.id in lines_by_id:
            problems.append(f"line {number}: id {case.id} is already used in line {lines_by_id[case.id]}")
        lines_by_id.setdefault(case.id, number)
        cases.append(case)
    if not cases and not problems:
        problems.append("no cases")
    if len(cases) > MAX_CASES:
        problems.append(f"{len(cases)} cases, at most {MAX_CASES} are supported")
    if problems:
        raise GoldenError(problems)
    return cases


def unreachable(
    thresholds: Thresholds, cases: Sequence[GoldenCase], baselines: Sequence[str]
) -> list[Problem]:
    """Why no model could pass, whatever it answers. Paths begin at the EvalGate.

    A version that was published is not there for every job, so it makes nothing impossible.
    """
    path = ("spec", "thresholds")
    names = {case.id for case in cases} | {tag for case in cases for tag in case.tags}
    problems = [
        Problem((*path, "mustPass", i), f"no golden case has the id or the tag {name}")
        for i, name in enumerate(thresholds.must_pass)
        if name not in names
    ]
    limit = thresholds.rules().max_drop_points
    if "BaseModel" in baselines and limit > 0 and len(cases) * limit < 100:
        needed = -int(-100 // limit)
        message = (
            f"{len(cases)} golden cases cannot show a drop of {thresholds.max_drop_points} points, so no "
            f"model can pass: have at least {needed} cases, or raise maxDropPoints"
        )
        problems.append(Problem((*path, "maxDropPoints"), message))
    return problems


def inline_golden(cases: Sequence[dict[str, Any]]) -> str:
    """The text form of cases that stand in a spec, one for equal content, so that it has one digest."""
    return "".join(json.dumps(case, sort_keys=True, ensure_ascii=False) + "\n" for case in cases)


def case_set(cases: Sequence[GoldenCase], sha256: str) -> CaseSet:
    """The ids and tags that outcomes refer to."""
    return CaseSet(sha256=sha256, ids=[c.id for c in cases], tags=[list(c.tags) for c in cases])
