"""The expectations of golden cases: what an output must be to pass."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from tunegate_api.messages import FunctionCall
from tunegate_api.meta import ApiModel
from tunegate_api.validation.json_schema import schema_faults


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


def judgeable(expectation: Expectation) -> Expectation:
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
