"""A client that connects but sends no report is disconnected, and cannot lock out other clients."""

import gc
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from support.report_address import TOKEN, Engine, FakeAuthenticator, serving
from support.waiting import eventually
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import Report, report_path
from tunegate_operator.reporting.connections import Limits

SHORT = 0.3
REPORT = (
    Report(job_uid="job", role=Role.DATA, attempt=1, sequence=1, time=datetime(2026, 1, 1, tzinfo=UTC))
    .model_dump_json(by_alias=True, exclude_none=True)
    .encode()
)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@contextmanager
def tcp_connection(engine: Engine, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Open a TCP connection."""
    address = ("127.0.0.1", engine.port)
    with socket.create_connection(address, timeout=10, source_address=(source, 0)) as plain:
        yield plain


@contextmanager
def tls_connection(engine: Engine, source: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
    """Open a TLS connection. Raises OSError."""
    tls = ssl.create_default_context(cadata=engine.authority.certificate.decode())
    with (
        tcp_connection(engine, source) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def head(token: str, length: int) -> bytes:
    """Return the headers of a request that reports about ``job``."""
    lines = f"POST {report_path('job')} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}"
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server closes the connection within the socket's timeout."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_connection_without_handshake_is_closed(engine):
    with serving(engine, limits=Limits(handshake=SHORT)), tcp_connection(engine) as plain:
        assert is_closed(plain)


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost: localhost\r\n"], ids=["nothing", "some"])
def test_connection_without_complete_headers_is_closed(engine, sent):
    with serving(engine, limits=Limits(headers=SHORT)), tls_connection(engine) as connection:
        connection.sendall(sent)
        assert is_closed(connection)


def test_connection_with_too_many_headers_is_closed(engine):
    with serving(engine, limits=Limits(headers=60)), tls_connection(engine) as connection:
        with suppress(ConnectionError, ssl.SSLError):
            for n in range(100):
                connection.sendall(b"POST / HTTP/1.1\r\n" if n == 0 else b"x: " + b"y" * 8000 + b"\r\n")
        assert is_closed(connection)


def test_connection_is_closed_after_its_total_timeout(engine):
    with serving(engine, limits=Limits(headers=60, connection=SHORT)), tls_connection(engine) as connection:
        assert is_closed(connection)


NO_DEADLINES = Limits(handshake=60, headers=60, body=60)
"""Limits with timeouts that are longer than a test."""


def can_connect(engine: Engine) -> bool:
    try:
        with tls_connection(engine):
            return True
    except OSError:
        return False


def test_connection_above_the_limit_per_source_address_is_closed(engine):
    with serving(engine, limits=replace(NO_DEADLINES, per_source=2)), ExitStack() as others:
        for _ in range(2):
            others.enter_context(tls_connection(engine))
        with tcp_connection(engine) as third:
            assert is_closed(third)
        others.enter_context(tls_connection(engine, source="127.0.0.2"))
        others.pop_all().close()
        eventually(lambda: can_connect(engine), what="closed connections no longer count")


def test_new_connection_replaces_idle_connection_of_busiest_source(engine):
    with serving(engine, limits=replace(NO_DEADLINES, connections=4)), ExitStack() as stack:
        lone = stack.enter_context(tcp_connection(engine, source="127.0.0.3"))
        busiest = [stack.enter_context(tcp_connection(engine, source="127.0.0.2")) for _ in range(3)]
        stack.enter_context(tls_connection(engine))
        assert is_closed(busiest[0])
        for kept in (lone, *busiest[1:]):
            kept.settimeout(SHORT)
            with pytest.raises(TimeoutError):
                kept.recv(1)


def test_idle_connections_from_many_sources_do_not_lock_out_others(engine):
    with serving(engine, limits=replace(NO_DEADLINES, connections=20, per_source=5)), ExitStack() as stack:
        for _ in range(5):
            for n in range(2, 7):
                stack.enter_context(tcp_connection(engine, source=f"127.0.0.{n}"))
            stack.enter_context(tls_connection(engine))


def test_new_connection_replaces_connection_of_refused_sender(engine):
    engine.jobs.add("job")
    with serving(engine, limits=replace(NO_DEADLINES, connections=1)), tls_connection(engine) as refused:
        refused.sendall(head("unknown", 1000))
        assert b" 403 " in refused.recv(4096)
        with tls_connection(engine, source="127.0.0.2"):
            pass


def test_new_connection_does_not_replace_an_authenticated_one(engine):
    engine.jobs.add("job")
    engine.acknowledge = None
    with serving(engine, limits=replace(NO_DEADLINES, connections=2)), ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(tls_connection(engine)).sendall(head(TOKEN, len(REPORT)) + REPORT)
        eventually(lambda: len(engine.taken) == 2, what="both reports reached the engine")
        another = stack.enter_context(tcp_connection(engine, source="127.0.0.2"))
        assert is_closed(another)


def test_new_connection_replaces_one_of_job_with_too_many(engine):
    engine.jobs.add("job")
    engine.acknowledge = None
    limits = replace(NO_DEADLINES, connections=4, per_job=2)
    with serving(engine, limits=limits), ExitStack() as stack:
        for n in range(4):
            stack.enter_context(tls_connection(engine)).sendall(head(TOKEN, len(REPORT)) + REPORT)
            eventually(lambda n=n: len(engine.taken) == n + 1, what="the report reached the engine")
        for _ in range(3):
            stack.enter_context(tls_connection(engine, source="127.0.0.2"))


def test_failed_tls_handshakes_do_not_count_toward_source_limit(engine):
    with serving(engine, limits=Limits(per_source=2)):
        for _ in range(5):
            with tcp_connection(engine) as plain:
                plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
                eventually(lambda plain=plain: plain.recv(4096) in (b"",) or None, what="it is closed")
        with tls_connection(engine):
            pass


def test_unauthenticated_connection_uses_little_memory(engine):
    count, body = 30, b" " * 200_000
    engine.jobs.add("job")
    engine.authenticator = blocked = BlockedReviews()
    with serving(engine), ExitStack() as clients:
        clients.callback(blocked.is_over.set)
        tracemalloc.start()
        clients.callback(tracemalloc.stop)
        for _ in range(count):
            connection = clients.enter_context(tls_connection(engine))
            connection.sendall(head("x", len(body)))
            connection.settimeout(SHORT)
            with suppress(TimeoutError):  # more than the buffers of the server and both sockets
                connection.sendall(body)
        gc.collect()
        held_bytes, _ = tracemalloc.get_traced_memory()
    assert held_bytes / count < 400_000, "256 KiB of it are the buffer of asyncio's TLS"


class BlockedReviews(FakeAuthenticator):
    """An authenticator that blocks every request until the test ends."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def authenticate(self, token: str, job_uid: str) -> Any:
        self.is_over.wait(30)
        return super().authenticate(token, job_uid)


def test_stopping_the_server_closes_every_connection(engine):
    with ExitStack() as stack:
        with serving(engine, limits=Limits(headers=60)):
            silent = stack.enter_context(tcp_connection(engine))
            idle = stack.enter_context(tls_connection(engine))
        assert is_closed(silent)
        assert is_closed(idle)
