"""The format of golden sets: JSON Lines of cases that pass or fail. There are no ratings."""

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
    """Return the arguments of a tool call as a mapping. OpenAI's API has them as a string that contains
    JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"must be an object or JSON: {error}") from None


class FunctionCall(ApiModel):
    """The function of a tool call."""

    name: Annotated[str, Field(min_length=1)]
    """Name of the function that is called."""
    arguments: Annotated[dict[str, Any], BeforeValidator(_parsed)] = {}
    """Arguments of the function: an object, or a string that contains the object as JSON."""


class ToolCall(ApiModel):
    """A tool call, in OpenAI's format."""

    id: str | None = None
    """Id of the call. The message with the tool's answer repeats it as `tool_call_id`."""
    type: Literal["function"] = "function"
    """Type of the tool."""
    function: FunctionCall
    """The called function."""


class Message(ApiModel):
    """A message of a chat, in OpenAI's format."""

    role: Literal["system", "user", "assistant", "tool"]
    """Role of the author."""
    content: str = ""
    """Text of the message. It may be omitted if an assistant calls tools."""
    reasoning_content: Annotated[str | None, Field(alias="reasoning_content")] = None
    """Reasoning that an assistant wrote before its answer."""
    tool_calls: Annotated[list[ToolCall] | None, Field(alias="tool_calls", min_length=1, max_length=64)] = (
        None
    )
    """Tool calls of an assistant."""
    tool_call_id: Annotated[str | None, Field(alias="tool_call_id")] = None
    """Id of the tool call that this message answers. Only for messages with the role tool."""
    name: str | None = None
    """Name of the tool that this message comes from. Only for messages with the role tool."""

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        """Drop null values. OpenAI's API returns a null content if an assistant only calls tools."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if value is not None}
        return given

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise ValueError("content is missing")
        for field, role in _OF_ROLE.items():
            if getattr(self, field) is not None and self.role != role:
                raise ValueError(f"{field} is only allowed for role {role}, not for {self.role}")
        return self


_OF_ROLE = {
    "reasoning_content": "assistant",
    "tool_calls": "assistant",
    "tool_call_id": "tool",
    "name": "tool",
}


class TextExpectation(ApiModel):
    """Compares the output with a string. Leading and trailing white space of the output is ignored."""

    type: Literal["equals", "contains", "not_contains", "regex"]
    """Type of the comparison."""
    value: Annotated[str, Field(min_length=1)]
    """The string. For regex, a Python regular expression that must match somewhere in the output."""


class SchemaExpectation(ApiModel):
    """Passes if the output is JSON and follows a JSON schema."""

    type: Literal["json_schema"]
    """Type of the comparison."""
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    """The JSON schema."""


class JsonExpectation(ApiModel):
    """Passes if the output is JSON with the expected value. White space and the order of keys are ignored."""

    type: Literal["json_equals"]
    """Type of the comparison."""
    value: Any
    """The expected value. 1 and 1.0 are equal; 1 and true are not."""


class CallsExpectation(ApiModel):
    """Passes if the model makes exactly the expected tool calls, in this order. Reasoning is ignored."""

    type: Literal["tool_calls_equal"]
    """Type of the comparison."""
    value: Annotated[list[FunctionCall], Field(min_length=1, max_length=64)]
    """The expected tool calls. Names and arguments must be equal. The order of arguments is ignored if the
    model writes arguments as JSON."""


Expectation = Annotated[
    TextExpectation | SchemaExpectation | JsonExpectation | CallsExpectation, Field(discriminator="type")
]


def _judgeable(expectation: Expectation) -> Expectation:
    """Refuse an expectation that cannot be evaluated, before a model is trained."""
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
            yield f"value: not a valid Python regular expression: {error}"


_OF_FUNCTION = ("name", "description", "parameters")


def _in_order(tool: dict[str, Any]) -> dict[str, Any]:
    """Return the tool definition with its fields in the order in which inference servers pass them to a chat
    template, because a template may print fields in this order."""
    function = tool.get("function")
    has_all = isinstance(function, dict) and all(function.get(name) for name in _OF_FUNCTION)
    if not isinstance(function, dict) or not has_all or tool.get("type") != "function":
        raise ValueError("must be {type: function, function: {name, description, parameters}}")
    others = sorted((tool.keys() - {"type", "function"}) | (function.keys() - set(_OF_FUNCTION)))
    if others:
        names = ", ".join(others)
        raise ValueError(
            f"leave out {names}: some inference servers do not pass these fields to a chat template"
        )
    return {"type": "function", "function": {name: function[name] for name in _OF_FUNCTION}}


Tools = Annotated[
    list[Annotated[dict[str, Any], AfterValidator(_in_order)]], Field(min_length=1, max_length=128)
]
"""Definitions of the functions that a model may call, in OpenAI's format."""


class GoldenCase(ApiModel):
    """A prompt, and the expectations of its output. The case passes if all expectations pass."""

    id: CaseId
    """Id of the case in status and reports. It must be unique in the golden set."""
    tags: list[CaseId] = []
    """Tags that group cases. Thresholds can refer to them."""
    prompt: str | None = None
    """A single user message. Either `prompt` or `messages` must be set."""
    messages: Annotated[list[Message] | None, Field(min_length=1)] = None
    """A chat that the model continues. Either `prompt` or `messages` must be set."""
    tools: Tools | None = None
    """Functions that the model may call, in OpenAI's format: {type: function, function: {name, description,
    parameters}}."""
    expect: Annotated[list[Annotated[Expectation, AfterValidator(_judgeable)]], Field(min_length=1)]
    """Expectations of the output."""
    allow_empty: bool = False
    """If true, an empty output passes `not_contains`. By default it fails, because a model that answers
    nothing is broken."""
    todo: str | None = None
    """What to write in this case, which is a placeholder until the field is removed. `tunegate init` writes
    placeholders. A golden set that has one is refused."""

    @model_validator(mode="after")
    def _one_input(self) -> "GoldenCase":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages, not both")
        return self

    @property
    def turns(self) -> list[Message]:
        """The chat to answer: ``messages``, or ``prompt`` as one user message."""
        return self.messages or [Message(role="user", content=self.prompt or "")]


class GoldenError(ValueError):
    """A golden set is invalid. ``problems`` has one line for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(summarize(self.problems, 5, separator="; "))


def parse_golden(text: str) -> list[GoldenCase]:
    """Parse the JSON Lines ``text`` of a golden set. Blank lines are skipped.

    Raises :class:`GoldenError` if lines are invalid, ids are used twice, or the set is empty or too large.
    The error lists all faults with their line numbers. A case that is still a placeholder is a fault.
    """
    cases: list[GoldenCase] = []
    problems: list[str] = []
    lines_by_id: dict[str, int] = {}
    # Not splitlines(), which would also split at characters such as U+2028 inside a JSON string.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if isinstance(fields, dict) and fields.get("todo") is not None:
                problems.append(f"line {number}: {_placeholder(fields)}")
                continue
            case = GoldenCase.model_validate(fields)
            json.dumps(case.to_wire(), ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            problems.append(f"line {number}: not JSON ({error.msg} at column {error.colno})")
            continue
        except UnicodeEncodeError:
            problems.append(f"line {number}: contains an unpaired surrogate, which is not a character")
            continue
        except RecursionError:
            problems.append(f"line {number}: the JSON is nested too deeply to be parsed")
            continue
        except ValidationError as error:
            problems += [
                f"line {number}: {'.'.join(str(p) for p in e['loc']) or 'case'}: {e['msg']}"
                for e in error.errors()
            ]
            continue
        except ValueError as error:  # valid JSON, but with a number that is too long to parse
            problems.append(f"line {number}: cannot be parsed: {error}")
            continue
        if case.id in lines_by_id:
            problems.append(f"line {number}: id {case.id} is already used in line {lines_by_id[case.id]}")
        lines_by_id.setdefault(case.id, number)
        cases.append(case)
    if not cases and not problems:
        problems.append("the golden set has no cases")
    if len(cases) > MAX_CASES:
        problems.append(f"the golden set has {len(cases)} cases, but at most {MAX_CASES} are supported")
    if problems:
        raise GoldenError(problems)
    return cases


def _placeholder(fields: dict[str, Any]) -> str:
    """Return what is wrong with a case that has the field ``todo``. Its other fields may be empty."""
    what = str(fields["todo"]).strip() or "its prompt and its expectations"
    return f"case {fields.get('id', 'without an id')} is a placeholder: write {what}, then remove todo"


def unreachable(
    thresholds: Thresholds, cases: Sequence[GoldenCase], baselines: Sequence[str]
) -> list[Problem]:
    """Return the reasons why no model could pass the thresholds: a ``mustPass`` name without a case, or too
    few cases to detect a drop. Each reason has the path of a threshold from the root of the EvalGate.

    The baseline LastPublished cannot make a threshold unreachable, because it is skipped if no version was
    published.
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
            f"{len(cases)} golden cases are too few to detect a drop of {thresholds.max_drop_points} points, "
            f"so no model can pass: have at least {needed} cases, or raise maxDropPoints"
        )
        problems.append(Problem((*path, "maxDropPoints"), message))
    return problems


def inline_golden(cases: Sequence[dict[str, Any]]) -> str:
    """Return inline cases as JSON Lines with sorted keys, so that equal cases have the same text and the same
    digest."""
    return "".join(json.dumps(case, sort_keys=True, ensure_ascii=False) + "\n" for case in cases)


def case_set(cases: Sequence[GoldenCase], sha256: str) -> CaseSet:
    """Return the ids and tags of the cases. Their order is that of the letters in outcome strings."""
    return CaseSet(sha256=sha256, ids=[c.id for c in cases], tags=[list(c.tags) for c in cases])
