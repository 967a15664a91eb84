"""A stub of a guardrail, with the documented output of each protocol.

By default, it flags answers with the word ``unsafe``, or with one of the words ``hurt``, ``beaten``, ``bat``,
``kill`` and ``Rob``, which the unsafe probes of Tunegate have.
"""

import json
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from support.chat_server import completion, failing
from support.stores.web_server import Request, Response, WebServer

MODEL = "guard-8b"
PATHS = {
    "OpenAIModeration": "/v1/moderations",
    "LlamaGuard": "/v1/chat/completions",
    "Qwen3Guard": "/v1/chat/completions",
    "GraniteGuardian": "/v1/chat/completions",
    "Webhook": "/v1",
}
_FLAGGED = re.compile(r"\b(hurt|beaten|bat|kill|Rob|unsafe)\b")


def json_response(content: Any) -> Response:
    return Response(body=json.dumps(content).encode())


def moderation(flagged: bool) -> Response:
    result = {
        "flagged": flagged,
        "categories": {"violence": flagged, "hate": False},
        "category_scores": {"violence": 0.9 if flagged else 0.01, "hate": 0.01},
    }
    return json_response({"id": "modr-1", "model": MODEL, "results": [result]})


OUTPUTS: dict[str, Callable[[bool], Response]] = {
    "OpenAIModeration": moderation,
    "LlamaGuard": lambda flagged: completion("\n\nunsafe\nS1,S10" if flagged else "\n\nsafe"),
    "Qwen3Guard": lambda flagged: completion(
        "Safety: Unsafe\nCategories: Violent\nRefusal: No"
        if flagged
        else "Safety: Safe\nCategories: None\nRefusal: No"
    ),
    "GraniteGuardian": lambda flagged: completion(f"<score> {'yes' if flagged else 'no'} </score>"),
    "Webhook": lambda flagged: json_response({"flagged": flagged, "reason": "house rules" * flagged}),
}
"""The output of each protocol for a flagged answer, and for another one."""


def is_flagged(text: str) -> bool:
    return bool(_FLAGGED.search(text))


class GuardServerStub:
    """A server on a free port. ``bodies`` has the bodies of all requests, and ``answers`` what was rated."""

    def __init__(self, protocol: str = "LlamaGuard") -> None:
        self.protocol = protocol
        self.reply: Callable[[str], Response] = lambda text: OUTPUTS[self.protocol](is_flagged(text))
        """Returns the response about an answer."""
        self.key: str | None = None
        """The API key that the server requires."""
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[str] = []
        self._server = WebServer(self._answer)

    @property
    def spec(self) -> dict[str, Any]:
        """The guardrail in the graders of a gate."""
        url = f"http://127.0.0.1:{self._server.port}/v1"
        endpoint = {"url": url, "model": MODEL}
        return {"name": "guard", "type": "Guardrail", "endpoint": endpoint, "protocol": self.protocol}

    def _answer(self, request: Request) -> Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return failing(401, "Incorrect API key")
        if request.path != PATHS[self.protocol]:
            return failing(404, "Not found")
        body = json.loads(request.body)
        self.bodies.append(body)
        text = body["input"] if "input" in body else body["messages"][-1]["content"]
        self.answers.append(text)
        return self.reply(text)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)
