"""Who connects and does not report is not waited for, and cannot keep others out."""

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
from tunegate_api.contract import Report, Role, report_path
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
def opened(engine: Engine, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A TCP connection."""
    address = ("127.0.0.1", engine.port)
    with socket.create_connection(address, timeout=10, source_address=(source, 0)) as plain:
        yield plain


@contextmanager
def secured(engine: Engine, source: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
    """A connection after its handshake. Raises OSError."""
    tls = ssl.create_default_context(cadata=engine.authority.certificate.decode())
    with (
        opened(engine, source) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def head(token: str, length: int) -> bytes:
    """The header block of a report on ``job``."""
    lines = f"POST {report_path('job')} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}"
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def is_closed(connection: socket.socket) -> bool:
    """Whether the server ends the connection, within the socket's timeout."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_a_connection_without_handshake_is_closed(engine):
    with serving(engine, limits=Limits(handshake=SHORT)), opened(engine) as plain:
        assert is_closed(plain)


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost: localhost\r\n"], ids=["nothing", "some"])
def test_a_connection_whose_headers_do_not_come_is_closed(engine, sent):
    with serving(engine, limits=Limits(headers=SHORT)), secured(engine) as connection:
        connection.sendall(sent)
        assert is_closed(connection)


def test_a_connection_with_too_many_headers_is_closed(engine):
    with serving(engine, limits=Limits(headers=60)), secured(engine) as connection:
        with suppress(ConnectionError, ssl.SSLError):
            for n in range(100):
                connection.sendall(b"POST / HTTP/1.1\r\n" if n == 0 else b"x: " + b"y" * 8000 + b"\r\n")
        assert is_closed(connection)


def test_a_connection_has_a_deadline_as_a_whole(engine):
    with serving(engine, limits=Limits(headers=60, connection=SHORT)), secured(engine) as connection:
        assert is_closed(connection)


PATIENT = Limits(handshake=60, headers=60, body=60)
"""No deadline ends a connection while a test lasts."""


def is_let_in(engine: Engine) -> bool:
    try:
        with secured(engine):
            return True
    except OSError:
        return False


def test_a_connection_above_the_limit_of_its_source_is_closed(engine):
    with serving(engine, limits=replace(PATIENT, per_source=2)), ExitStack() as others:
        for _ in range(2):
            others.enter_context(secured(engine))
        with opened(engine) as third:
            assert is_closed(third)
        others.enter_context(secured(engine, source="127.0.0.2"))
        others.pop_all().close()
        eventually(lambda: is_let_in(engine), what="the places are free again")


def test_newcomer_displaces_a_silent_connection_of_the_busiest_source(engine):
    with serving(engine, limits=replace(PATIENT, connections=4)), ExitStack() as stack:
        lone = stack.enter_context(opened(engine, source="127.0.0.3"))
        busiest = [stack.enter_context(opened(engine, source="127.0.0.2")) for _ in range(3)]
        stack.enter_context(secured(engine))
        assert is_closed(busiest[0])
        for kept in (lone, *busiest[1:]):
            kept.settimeout(SHORT)
            with pytest.raises(TimeoutError):
                kept.recv(1)


def test_many_silent_sources_shut_nobody_out(engine):
    with serving(engine, limits=replace(PATIENT, connections=20, per_source=5)), ExitStack() as stack:
        for _ in range(5):
            for n in range(2, 7):
                stack.enter_context(opened(engine, source=f"127.0.0.{n}"))
            stack.enter_context(secured(engine))


def test_newcomer_displaces_a_connection_whose_sender_was_refused(engine):
    engine.jobs.add("job")
    with serving(engine, limits=replace(PATIENT, connections=1)), secured(engine) as refused:
        refused.sendall(head("unknown", 1000))
        assert b" 403 " in refused.recv(4096)
        with secured(engine, source="127.0.0.2"):
            pass


def test_newcomer_displaces_no_accepted_report(engine):
    engine.jobs.add("job")
    engine.acknowledge = None
    with serving(engine, limits=replace(PATIENT, connections=2)), ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(secured(engine)).sendall(head(TOKEN, len(REPORT)) + REPORT)
        eventually(lambda: len(engine.taken) == 2, what="both reports were handed on")
        newcomer = stack.enter_context(opened(engine, source="127.0.0.2"))
        assert is_closed(newcomer)


def test_newcomer_displaces_a_report_of_a_job_that_sends_many(engine):
    engine.jobs.add("job")
    engine.acknowledge = None
    limits = replace(PATIENT, connections=4, per_job=2)
    with serving(engine, limits=limits), ExitStack() as stack:
        for n in range(4):
            stack.enter_context(secured(engine)).sendall(head(TOKEN, len(REPORT)) + REPORT)
            eventually(lambda n=n: len(engine.taken) == n + 1, what="the report was handed on")
        for _ in range(3):
            stack.enter_context(secured(engine, source="127.0.0.2"))


def test_handshakes_that_fail_leave_their_places_free(engine):
    with serving(engine, limits=Limits(per_source=2)):
        for _ in range(5):
            with opened(engine) as plain:
                plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
                eventually(lambda plain=plain: plain.recv(4096) in (b"",) or None, what="it is closed")
        with secured(engine):
            pass


def test_a_stranger_takes_little_memory(engine):
    count, body = 30, b" " * 200_000
    engine.jobs.add("job")
    engine.authenticator = held = HeldReviews()
    with serving(engine), ExitStack() as strangers:
        strangers.callback(held.is_over.set)
        tracemalloc.start()
        strangers.callback(tracemalloc.stop)
        for _ in range(count):
            connection = strangers.enter_context(secured(engine))
            connection.sendall(head("x", len(body)))
            connection.settimeout(SHORT)
            with suppress(TimeoutError):  # more than the server and both sockets hold
                connection.sendall(body)
        gc.collect()
        held_bytes, _ = tracemalloc.get_traced_memory()
    assert held_bytes / count < 160_000


class HeldReviews(FakeAuthenticator):
    """Answers nobody while the test lasts."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def authenticate(self, token: str, job_uid: str) -> Any:
        self.is_over.wait(30)
        return super().authenticate(token, job_uid)


def test_the_end_of_the_server_closes_every_connection(engine):
    with ExitStack() as stack:
        with serving(engine, limits=Limits(headers=60)):
            silent = stack.enter_context(opened(engine))
            idle = stack.enter_context(secured(engine))
        assert is_closed(silent)
        assert is_closed(idle)
