"""Connections to an inference server."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.chat_server import completion
from support.stores.web_server import WebServer
from tunegate_api.v1alpha1.endpoint import Endpoint
from tunegate_operator.reporting.certificates import make_authority, make_serving
from tunegate_trainer.inference.faults import Fault, FaultError
from tunegate_trainer.inference.server import ChatServer


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The TLS settings of a server whose certificate authority is only trusted by the environment."""
    authority = make_authority(datetime.now(UTC))
    serving = make_serving(authority, "localhost", datetime.now(UTC))
    (tmp_path / "serving.pem").write_bytes(serving.key + serving.certificate)
    (tmp_path / "authority.pem").write_bytes(authority.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "serving.pem")
    return tls


def answer(server: WebServer, *, is_direct: bool) -> str:
    async def ask() -> str:
        endpoint = Endpoint(url=f"https://localhost:{server.port}/v1", model="live")
        async with ChatServer(endpoint, None, "spec.served", is_direct=is_direct) as chat:
            return (await chat.complete([{"role": "user", "content": "hello"}], 8)).text

    return asyncio.run(ask())


def test_direct_server_with_an_authority_of_the_environment_is_refused(authority):
    with WebServer(lambda _: completion("hi"), authority) as server:
        assert answer(server, is_direct=False) == "hi"
        with pytest.raises(FaultError, match="the connection failed") as raised:
            answer(server, is_direct=True)
    assert raised.value.fault is Fault.UNREACHABLE
