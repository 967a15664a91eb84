"""Connections to an inference server."""

import asyncio
import ssl
from pathlib import Path

import pytest

from support.chat_server import completion
from support.own_authority import own_authority
from support.stores.web_server import WebServer
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_trainer.graders.server.chat_server import ChatServer
from tunegate_trainer.graders.server.faults import Fault, FaultError


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The TLS settings of a server whose certificate authority is only trusted by the environment."""
    tls, certificate = own_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return tls


def answer(server: WebServer, *, is_direct: bool) -> str:
    async def ask() -> str:
        endpoint = Endpoint(url=f"https://localhost:{server.port}/v1", model="live")
        async with ChatServer(
            endpoint, None, "spec.compareWith[Endpoint].endpoint", is_direct=is_direct
        ) as chat:
            return (await chat.complete([{"role": "user", "content": "hello"}], 8)).text

    return asyncio.run(ask())


def test_direct_server_with_an_authority_of_the_environment_is_refused(authority):
    with WebServer(lambda _: completion("hi"), authority) as server:
        assert answer(server, is_direct=False) == "hi"
        with pytest.raises(FaultError, match="the connection failed") as raised:
            answer(server, is_direct=True)
    assert raised.value.fault is Fault.UNREACHABLE
