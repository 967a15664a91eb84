"""The operator's report server on localhost, in a thread, with a fake engine."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from support.api_server import free_port
from tunegate_api.contract.report import Report
from tunegate_operator.engine.clock import Clock, SystemClock
from tunegate_operator.engine.cluster import Object
from tunegate_operator.reporting.certificates import KeyPair, make_authority
from tunegate_operator.reporting.connections import LIMITS, Limits
from tunegate_operator.reporting.senders import ForbiddenSenderError
from tunegate_operator.reporting.server import ReportServer
from tunegate_operator.reporting.steps import Sender

TOKEN = "a-pods-token"


class AnyReport:
    """A sender that may send every report."""

    def check_report(self, _report: Report) -> None: ...


class FakeAuthenticator:
    """An authenticator that accepts one token only."""

    requests = 0
    """Number of calls of ``authenticate``."""
    error: Exception | None = None
    sender: Sender | AnyReport = AnyReport()

    def is_cached(self, token: str, _job_uid: str) -> bool:
        return token == TOKEN

    def authenticate(self, token: str, _job_uid: str) -> Sender | AnyReport:
        self.requests += 1
        if self.error:
            raise self.error
        if token != TOKEN:
            raise ForbiddenSenderError("the token belongs to a pod of another job")
        return self.sender


class Engine:
    """Collects reports. ``acknowledge`` completes the future of a report; None leaves it pending."""

    def __init__(self) -> None:
        self.authenticator = FakeAuthenticator()
        self.jobs: set[str] = set()
        self.taken: list[Object] = []
        self.acknowledge: Callable[[Future[None]], None] | None = lambda promise: promise.set_result(None)
        self.port = 0
        self.authority: KeyPair = make_authority(datetime.now(UTC))

    def take(self, report: Object) -> Future[None]:
        self.taken.append(report)
        promise: Future[None] = Future()
        if self.acknowledge:
            self.acknowledge(promise)
        return promise

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


@contextmanager
def serving(
    engine: Engine,
    port: int = 0,
    limits: Limits = LIMITS,
    clock: Clock | None = None,
    *,
    linger: float = 2.0,
    shutdown: float = 0.2,
) -> Iterator[None]:
    """Run the report server at ``engine.url``. ``linger`` and ``shutdown`` replace those of ``limits``,
    because many tests have clients that never end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="report server")
    thread.start()
    server = ReportServer(
        engine.authority,
        "localhost",
        engine.authenticator,  # type: ignore[arg-type]  # the server uses no other methods
        engine.take,
        is_known=engine.jobs.__contains__,
        clock=clock or SystemClock(),
        limits=replace(limits, linger=linger, shutdown=shutdown),
    )
    try:
        engine.port = port or free_port()
        asyncio.run_coroutine_threadsafe(server.start(engine.port), loop).result(10)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
