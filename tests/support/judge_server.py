"""A stub of a judge model: a server with the chat completions API, which can fail like a real server.

By default, it finds the word ``bad`` in completions.
"""

import json
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from support.stores.web_server import Request, Response, WebServer

JUDGE_KEY = "judge-key-of-the-test"
Reply = Callable[[dict[str, Any], int], str | Response]
"""Returns the answer about a row, or another response. The arguments are the row and the number of the
request about it."""


def score(good: bool, reason: str = "as asked") -> str:
    """Return an answer with a score."""
    return json.dumps({"reason": reason, "good": good})


def find_bad_rows(row: dict[str, Any], _: int) -> str:
    """Answer as a judge without errors."""
    is_bad = "bad" in row["completion"]
    return score(not is_bad, "the word bad" if is_bad else "as asked")


def completion(text: str | None, ended: str = "stop") -> Response:
    """Return a successful response with an answer."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": ended}
    return Response(body=json.dumps({"choices": [choice]}).encode())


class JudgeServerStub:
    """A server on a free port. ``rows`` has the row of each request."""

    def __init__(self, reply: Reply = find_bad_rows) -> None:
        self.reply = reply
        self.key: str | None = None
        """The API key that the server requires."""
        self.rows: list[dict[str, Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self._server = WebServer(self._answer)

    @property
    def endpoint(self) -> dict[str, str]:
        """The endpoint in a spec."""
        return {"url": f"http://127.0.0.1:{self._server.port}/v1", "model": "judge-7b"}

    def _answer(self, request: Request) -> Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(401, "Incorrect API key")
        body = json.loads(request.body)
        if request.path != "/v1/chat/completions" or body["model"] != "judge-7b":
            return _error(404, f"The model {body['model']} does not exist")
        row = json.loads(body["messages"][1]["content"])
        self.bodies.append(body)
        self.rows.append(row)
        reply = self.reply(row, Counter(map(json.dumps, self.rows))[json.dumps(row)])
        return completion(reply) if isinstance(reply, str) else reply

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)


def _error(status: int, message: str, **headers: str) -> Response:
    return Response(status, json.dumps({"error": {"message": message}}).encode(), headers)


def failing(status: int, message: str = "try later", **headers: str) -> Response:
    """Return an error of the server. ``Retry_After`` is the header Retry-After."""
    return _error(status, message, **{name.replace("_", "-"): value for name, value in headers.items()})


def calibration_rows(bad: int = 20, good: int = 80) -> list[dict[str, Any]]:
    """Return rows that people scored, as :func:`find_bad_rows` scores them."""
    return [
        {
            "prompt": f"calibration order {n}",
            "completion": f"{'bad' if n < bad else 'mugs'}: {n}",
            "good": n >= bad,
        }
        for n in range(bad + good)
    ]
