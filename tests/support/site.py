"""The pages of ``tunegate ui`` and of ``tunegate review --web``, served in a thread of the test."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlencode

from aiohttp import web

from tunegate_client.places.caller import TUNEGATE, Caller
from tunegate_client.places.client import Client
from tunegate_client.ui.local_server import LOOPBACK
from tunegate_client.ui.server import make_app


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Site:
    """A running server."""

    port: int

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def get(self, path: str = "/", method: str = "GET", body: str = "", **headers: str) -> Answer:
        """Send a request. The names of headers are written with underscores."""
        connection = HTTPConnection(LOOPBACK, self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): v for name, v in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read().decode())
        finally:
            connection.close()

    def post(self, path: str, **form: str) -> Answer:
        """Send a form."""
        return self.get(path, "POST", urlencode(form), Content_Type="application/x-www-form-urlencoded")


@contextmanager
def serve_site(client: Client, caller: Caller = TUNEGATE, *, is_cluster: bool = False) -> Iterator[Site]:
    """Serve the pages of a client on a free port."""
    with serve_app(make_app(client, caller, is_cluster=is_cluster)) as site:
        yield site


@contextmanager
def serve_app(app: web.Application) -> Iterator[Site]:
    """Serve an application on a free port."""
    loop, ports = asyncio.new_event_loop(), list[int]()
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        ports.append(runner.addresses[0][1])

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Site(ports[0])
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
