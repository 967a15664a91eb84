"""Send one request to an inference server: by the chat completions API of OpenAI, or another JSON body."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2

from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_trainer.data.excerpts import masked_text, one_line
from tunegate_trainer.fetch.network import is_loopback, local_address_refused, retry_after, tls
from tunegate_trainer.graders.server.faults import Fault, FaultError
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.credentials import Secret
from tunegate_trainer.process.errors import CredentialsError, SourceNotFoundError, TrainerError, UserError
from tunegate_trainer.process.local_addresses import find_local_address

KEY = "OPENAI_API_KEY"
"""The key of the Secret with the API key."""
REQUEST_SECONDS = 120.0
"""Maximum duration of a request, with the generation of the answer."""
CONNECT_SECONDS = 20.0
MAX_RETRY_AFTER = 60.0
"""The longest wait in seconds that a server can ask for with the header Retry-After."""
CHAT = "/chat/completions"
"""The path of the chat completions API below the base URL."""
_MAX_BYTES = 1 << 20
"""Maximum size of a response. A longer one is malformed."""
_MAX_DETAIL = 200
"""Maximum length of a server's error message in ours, in characters."""


@dataclass(frozen=True)
class ServerCompletion:
    """The answer of a model."""

    message: Mapping[str, Any]
    """The message of the assistant, as the server sent it."""
    ended: Any
    """Why the answer ended: ``stop``, ``length`` if it reached the token limit, ``tool_calls``, or a word
    of the server."""

    @property
    def text(self) -> str:
        """The text of the answer. Raises :class:`FaultError` if it is not complete, or has no text."""
        if self.ended == "length":
            raise FaultError(Fault.TRUNCATED, "the answer exceeds the token limit")
        content = self.message.get("content")
        if not isinstance(content, str):
            raise FaultError(Fault.MALFORMED, "the answer has no text")
        return content


class ChatServer:
    """An inference server and a model on it. Use it as an asynchronous context manager."""

    def __init__(
        self,
        endpoint: Endpoint,
        secret: Secret | None,
        field: str,
        seconds: float | None = None,
        path: str = CHAT,
        *,
        is_direct: bool = False,
    ) -> None:
        """``field`` is the field of the spec that errors name, and ``seconds`` the maximum duration of a
        request, by default REQUEST_SECONDS. ``path`` is appended to the URL of the endpoint. With
        ``is_direct``, the proxies and certificate authorities in the environment are ignored. Raises
        :class:`TrainerError` if the API key is missing, or would be sent without encryption."""
        self.field = field
        self.path = path
        self.model = endpoint.model
        self.is_direct = is_direct
        self._url = f"{endpoint.url.rstrip('/')}{path}"
        try:
            url = httpx2.URL(self._url)
        except httpx2.InvalidURL as error:
            raise UserError(f"{field}.url is not a valid address: {error}") from error
        self._secret_name, self._key, headers = endpoint.secret_name, "", {}
        if secret is not None:
            if url.scheme != "https" and not is_loopback(url.host):
                raise UserError(
                    f"{field}.url: the API key in Secret {secret.name} would be sent unencrypted",
                    "use an https:// address, or leave secretName out",
                )
            self._key = secret[KEY].strip()
            if not self._key.isascii() or not self._key.isprintable():
                raise CredentialsError(
                    f"Secret {secret.name}, key {KEY}: an API key may only have printable ASCII characters"
                )
            headers["Authorization"] = f"Bearer {self._key}"
        self._seconds = seconds or REQUEST_SECONDS
        timeout = httpx2.Timeout(self._seconds, connect=CONNECT_SECONDS)
        self._client = httpx2.AsyncClient(
            headers=headers, timeout=timeout, trust_env=not is_direct, verify=tls(is_direct=is_direct)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    def __str__(self) -> str:
        return f"{self.model} at {self._url}"

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        max_tokens: int,
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float = 0,
    ) -> ServerCompletion:
        """Return the model's answer to ``messages``, with at most ``max_tokens`` tokens. ``tools`` are
        functions that the model may call.

        Raises :class:`FaultError`, and :class:`CredentialsError` for a wrong key.
        """
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        if tools:
            body["tools"] = tools
        return completion(await self.post(body))

    async def post(self, body: Mapping[str, Any]) -> bytes:
        """Send a JSON body, and return the content of the response. Raises the errors of
        :meth:`complete`."""
        async with self._faults(), self._client.stream("POST", self._url, json=body) as response:
            content = await _read(response)
        if response.status_code != httpx2.codes.OK:
            raise self._error(response, content)
        if len(content) > _MAX_BYTES:
            raise FaultError(Fault.MALFORMED, "the response is too large")
        return content

    @asynccontextmanager
    async def _faults(self) -> AsyncIterator[None]:
        """Limit the duration of a request, and turn errors of the connection into :class:`FaultError`. Raises
        :class:`UserError` for a server that pods may not connect to."""
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except (TimeoutError, httpx2.ReadTimeout) as error:
            raise FaultError(Fault.TIMED_OUT, "the server did not answer in time") from error
        except httpx2.RequestError as error:
            if refused := find_local_address(error):
                raise local_address_refused(f"{self.field}.url", refused) from error
            text = f"the connection failed ({type(error).__name__})"
            raise FaultError(Fault.UNREACHABLE, text) from error

    def _error(self, response: httpx2.Response, content: bytes) -> FaultError | TrainerError:
        """Return the error for a response that is not a success."""
        status = response.status_code
        answered = f"the server answered with status {status}"
        with_detail = f"{answered}{self._detail(content)}"
        if status == httpx2.codes.UNAUTHORIZED:
            return self._no_access(answered)
        if status == httpx2.codes.TOO_MANY_REQUESTS:
            return FaultError(Fault.RATE_LIMITED, with_detail, retry_after(response.headers, MAX_RETRY_AFTER))
        if status == httpx2.codes.REQUEST_TIMEOUT:
            return FaultError(Fault.TIMED_OUT, answered)
        if status >= httpx2.codes.INTERNAL_SERVER_ERROR:
            return FaultError(Fault.SERVER_ERROR, with_detail, retry_after(response.headers, MAX_RETRY_AFTER))
        mistake = self._mistake(response, with_detail)
        return FaultError(Fault.REFUSED, with_detail, before_answers=mistake)

    def _mistake(self, response: httpx2.Response, answered: str) -> TrainerError | None:
        """Return the mistake in the spec that a refusal of the first request shows; None if it may be about
        this request."""
        if response.status_code == httpx2.codes.FORBIDDEN:
            return self._no_access(answered)
        if response.status_code == httpx2.codes.NOT_FOUND:
            return SourceNotFoundError(
                f"{self.field}: {self} does not exist: {answered}",
                f"check url{f', to which {self.path} is appended,' if self.path else ''} and model",
            )
        if response.has_redirect_location:
            target = self._shown(response.headers["Location"].partition("?")[0])
            return UserError(
                f"{self.field}: {self} redirects to {target}",
                f"set url to the new address{f', without {self.path}' if self.path else ''}",
            )
        return None

    def _no_access(self, answered: str) -> CredentialsError:
        hint = f"check that {KEY} in Secret {self._secret_name} is valid for this server and model"
        if not self._key:
            hint = f"set {self.field}.secretName to a Secret with the API key in {KEY}"
        return CredentialsError(f"{self.field}: {self} refuses access: {answered}", hint)

    def _detail(self, content: bytes) -> str:
        """Return the server's own message after a colon; empty if it has none."""
        try:
            found: Any = json.loads(content)
        except (ValueError, RecursionError):
            return ""
        error = found.get("error", found) if isinstance(found, dict) else None
        text = error.get("message", "") if isinstance(error, dict) else error
        if not isinstance(text, str) or not text.strip():
            return ""
        return f": {self._shown(text)}"

    def _shown(self, text: str) -> str:
        """Return a text of the server without the API key, masked because it may quote the request,
        and truncated."""
        hidden = text.replace(self._key, "…") if self._key else text
        return one_line(masked_text(hidden))[:_MAX_DETAIL]


def open_server(
    context: Context,
    endpoint: Endpoint,
    field: str,
    seconds: float | None = None,
    path: str = CHAT,
    *,
    is_direct: bool = False,
) -> ChatServer:
    """Return the server at ``endpoint``, with the API key in its Secret. The other arguments are those of
    :class:`ChatServer`. Sends nothing. Raises :class:`TrainerError` if the address or the API key cannot be
    used."""
    secret = context.secret(endpoint.secret_name) if endpoint.secret_name else None
    return ChatServer(endpoint, secret, field, seconds, path, is_direct=is_direct)


async def _read(response: httpx2.Response) -> bytes:
    """Return the content of a response, at most a little more than ``_MAX_BYTES`` of it."""
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > _MAX_BYTES:
            break
    return bytes(content)


def completion(content: bytes) -> ServerCompletion:
    """Return the first choice in a response. Raises :class:`FaultError` if the response has none."""
    try:
        choice = json.loads(content)["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        message = ended = None
    if not isinstance(message, dict):
        raise FaultError(Fault.MALFORMED, "the response has no chat completion")
    return ServerCompletion(message, ended)
