"""A stub of an inference server with the chat completions API, which serves the model ``live``."""

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from support.stores.web_server import Request, Response, WebServer

MODEL = "live"
Reply = Callable[[dict[str, Any]], str | Response]
"""Returns the answer to the body of a request, or another response."""


def completion(text: str | None, ended: str = "stop") -> Response:
    """Return a successful response with an answer."""
    return answer(ended, content=text)


def failing(status: int, message: str = "try later", **headers: str) -> Response:
    """Return an error of the server. ``Retry_After`` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, json.dumps({"error": {"message": message}}).encode(), named)


def answer(ended: str = "stop", **message: Any) -> Response:
    """Return a successful response with a message of the assistant."""
    choice = {"message": {"role": "assistant", **message}, "finish_reason": ended}
    return Response(body=json.dumps({"choices": [choice]}).encode())


class ChatServerStub:
    """A server on a free port. ``bodies`` has the bodies of all requests."""

    def __init__(self, reply: Reply = lambda _: "yes", model: str = MODEL) -> None:
        self.reply = reply
        self._model = model
        self.key: str | None = None
        """The API key that the server requires."""
        self.bodies: list[dict[str, Any]] = []
        self._server = WebServer(self._answer)

    @property
    def endpoint(self) -> dict[str, str]:
        """The endpoint in a spec."""
        return {"url": f"http://127.0.0.1:{self._server.port}/v1", "model": self._model}

    def _answer(self, request: Request) -> Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return failing(401, "Incorrect API key")
        body = json.loads(request.body)
        if request.path != "/v1/chat/completions" or body["model"] != self._model:
            return failing(404, f"The model {body['model']} does not exist")
        self.bodies.append(body)
        reply = self._reply_to(body)
        return completion(reply) if isinstance(reply, str) else reply

    def _reply_to(self, body: dict[str, Any]) -> str | Response:
        return self.reply(body)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)
