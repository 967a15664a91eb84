"""Chats in the format of OpenAI's API."""

import json
from collections.abc import Sequence
from itertools import count
from typing import Any

from tunegate_api.messages import Message


def chat_messages(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the turns of a chat as a server gets them. A tool call without an id gets one, and the results
    of tools name the ids of the calls in their order, because servers require these ids."""
    numbers, waiting, messages = count(1), list[str](), []
    for turn in turns:
        message = turn.model_dump(exclude_none=True)
        for call in message.get("tool_calls", ()):
            call.setdefault("id", f"call{next(numbers):05d}")  # Mistral's templates accept only this length
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
            waiting.append(call["id"])
        if turn.role == "tool":
            called = waiting.pop(0) if waiting else f"call{next(numbers):05d}"
            message.setdefault("tool_call_id", called)
        messages.append(message)
    return messages
