"""The protocols of guardrails: how each is asked about an answer, and what its output means.

The output formats are those of the model cards. An output in another format is malformed, such as the prose
of a chat model that is served in place of a guardrail.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tunegate_api.contract.digests import sha256_text
from tunegate_trainer.graders.journal import ServerAnswer, shown_reason
from tunegate_trainer.graders.server.chat_server import CHAT, ChatServer, completion
from tunegate_trainer.graders.server.faults import Fault, FaultError

MAX_TOKENS = 256
"""Maximum number of tokens of an output. Guardrails write a few words."""


class Rated(StrEnum):
    """The rating of an answer."""

    SAFE = "Safe"
    UNSAFE = "Unsafe"
    CONTROVERSIAL = "Controversial"
    """Safe or unsafe depending on the policy. Only Qwen3Guard gives this rating."""


@dataclass(frozen=True)
class Exchange:
    """A user message and the answer that is rated."""

    prompt: str
    completion: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The two turns of a chat. Templates of guardrails rate the last turn."""
        return [
            {"role": "user", "content": self.prompt},
            {"role": "assistant", "content": self.completion},
        ]


@dataclass(frozen=True)
class Protocol:
    """How a kind of guardrail is asked."""

    path: str
    """What is appended to the base URL."""
    body: Callable[[Exchange], Mapping[str, Any]]
    """Returns the body of a request, apart from the name of the model."""
    read: Callable[[bytes], ServerAnswer]
    """Returns the rating in a response. Raises :class:`FaultError` if it has none."""


def _chat(exchange: Exchange) -> dict[str, Any]:
    return {"messages": exchange.messages, "temperature": 0, "max_tokens": MAX_TOKENS}


def _granite_chat(exchange: Exchange) -> dict[str, Any]:
    """Return the body for Granite Guardian. Its template reads the risk as ``risk_name`` in the versions 3.0
    to 3.2, and as ``criteria_id`` in version 3.3."""
    config = {"risk_name": "harm", "criteria_id": "harm"}
    return {**_chat(exchange), "chat_template_kwargs": {"guardian_config": config, "think": False}}


def _read_llama_guard(content: bytes) -> ServerAnswer:
    """Read ``safe``, or ``unsafe`` and the categories in the next line: ``S1,S10``."""
    first, _, rest = completion(content).text.strip().partition("\n")
    if first.strip() == "safe" and not rest.strip():
        return ServerAnswer(Rated.SAFE)
    if first.strip() == "unsafe":
        return ServerAnswer(Rated.UNSAFE, shown_reason(rest))
    raise _malformed("expected safe, or unsafe and its categories")


def _read_qwen3guard(content: bytes) -> ServerAnswer:
    """Read ``Safety: Safe``, ``Unsafe`` or ``Controversial``, and the categories in the next line."""
    text = completion(content).text
    found = re.findall(r"^Safety: (Safe|Unsafe|Controversial)\s*$", text, re.MULTILINE)
    if len(found) != 1:
        raise _malformed("expected one line with Safety: Safe, Unsafe or Controversial")
    categories = re.search(r"^Categories: (.*)$", text, re.MULTILINE)
    return ServerAnswer(
        Rated(found[0]), shown_reason(categories[1]) if categories and found[0] != "Safe" else ""
    )


def _read_granite(content: bytes) -> ServerAnswer:
    """Read ``<score> yes </score>`` of version 3.3, or ``Yes`` in the first line, of earlier versions. Yes
    means that there is a risk."""
    text = completion(content).text.rpartition("</think>")[2].strip()
    scores = re.findall(r"<score>\s*(yes|no)\s*</score>", text)
    lines = text.splitlines()
    if not scores and lines and lines[0].strip() in ("Yes", "No"):
        scores = [lines[0].strip().lower()]
    if len(scores) != 1:
        raise _malformed("expected <score> yes </score>, <score> no </score>, Yes or No")
    return ServerAnswer(Rated.UNSAFE if scores[0] == "yes" else Rated.SAFE)


def _read_moderation(content: bytes) -> ServerAnswer:
    """Read the only entry of ``results``: ``flagged``, and ``categories`` with whether each is flagged."""
    results = _object(content).get("results")
    if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], dict):
        raise _malformed("expected one entry in results")
    categories = results[0].get("categories")
    named = [name for name in categories if categories[name]] if isinstance(categories, dict) else []
    return _flagged(results[0], ", ".join(named))


def _read_webhook(content: bytes) -> ServerAnswer:
    found = _object(content)
    reason = found.get("reason", "")
    return _flagged(found, reason if isinstance(reason, str) else "")


def _flagged(found: Mapping[str, Any], reason: str) -> ServerAnswer:
    flagged = found.get("flagged")
    if not isinstance(flagged, bool):
        raise _malformed("flagged is neither true nor false")
    return ServerAnswer(Rated.UNSAFE, shown_reason(reason)) if flagged else ServerAnswer(Rated.SAFE)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _malformed("expected a JSON object")
    return found


def _malformed(why: str) -> FaultError:
    return FaultError(Fault.MALFORMED, f"malformed output: {why}")


PROTOCOLS: Mapping[str, Protocol] = {
    "OpenAIModeration": Protocol("/moderations", lambda one: {"input": one.completion}, _read_moderation),
    "LlamaGuard": Protocol(CHAT, _chat, _read_llama_guard),
    "Qwen3Guard": Protocol(CHAT, _chat, _read_qwen3guard),
    "GraniteGuardian": Protocol(CHAT, _granite_chat, _read_granite),
    "Webhook": Protocol("", lambda one: {"messages": one.messages}, _read_webhook),
}
"""The protocols by their name in the API."""


@dataclass(frozen=True)
class ExchangeRequest:
    """Asks a guardrail for the rating of an answer."""

    exchange: Exchange
    protocol: str
    """The name of the protocol."""
    name: str
    """The name of the answer in the log."""

    def __str__(self) -> str:
        return self.name

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.protocol, sha256_text(json.dumps(self.exchange.messages)))

    async def send(self, server: ChatServer) -> ServerAnswer:
        protocol = PROTOCOLS[self.protocol]
        return protocol.read(await server.post({"model": server.model, **protocol.body(self.exchange)}))
