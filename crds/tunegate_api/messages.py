"""The messages of a chat and the functions that a model may call, in OpenAI's format."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tunegate_api.meta import ApiModel


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
