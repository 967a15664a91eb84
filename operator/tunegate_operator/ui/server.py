"""The web server of the pages: read-only, and reachable from this machine only.

A web site in the user's browser may try to reach the server. It cannot read the pages, because they are not
shared with other origins, and a host name that an attacker points to this machine (DNS rebinding) is refused.
"""

import asyncio
import hashlib
import logging
import signal
from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from tunegate_operator.clients.caller import Caller
from tunegate_operator.clients.client import Client, ClientError, UnknownNameError
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.ui.pages import Pages
from tunegate_operator.ui.reader import Reader
from tunegate_operator.ui.threads import in_daemon_thread

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 2.0
"""How long the end of the process waits for requests that are being answered, in seconds. It does not wait
for a cluster that does not answer."""
REQUEST_SECONDS = 10.0
"""Timeout of the server's requests to a cluster. It is short, because a user waits for the page."""
LOOPBACK = "127.0.0.1"
OWN_HOSTS = (LOOPBACK, "localhost", "::1")
"""The host names by which a browser on this machine, or at the other end of an SSH tunnel, reaches it."""
_STATIC = {"ui.css": "text/css", "ui.js": "text/javascript", "icon.svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "private, no-cache",  # a browser asks each time whether the ETag is current
}
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
"""The policy of a report, which has its styles inline and no scripts."""


def make_app(client: Client, caller: Caller, *, is_cluster: bool) -> web.Application:
    """Return the application that serves the pages."""
    reader = Reader(client, SystemClock())
    server = _Server(reader, Pages(reader, caller, is_cluster=is_cluster), is_cluster=is_cluster)
    app = web.Application(middlewares=[server.guard])
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/", server.overview)
    app.router.add_get("/jobs/{name}", server.job)
    app.router.add_get("/jobs/{name}/report", server.report)
    app.router.add_get("/gates/{name}", server.gate)
    app.router.add_get("/static/{file}", _static)
    return app


def serve(
    client: Client, caller: Caller, *, is_cluster: bool, port: int, started: Callable[[str], None]
) -> None:
    """Serve the pages until the process gets SIGINT or SIGTERM. Calls ``started`` with the address of the
    page. Raises OSError if the port is taken."""
    asyncio.run(_serve(make_app(client, caller, is_cluster=is_cluster), port, started))


async def _serve(app: web.Application, port: int, started: Callable[[str], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # aiohttp waits twice for a request that is being answered: before and after it cancels the request.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS / 2)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        started(f"http://{LOOPBACK}:{runner.addresses[0][1]}/")
        await stop.wait()
    finally:
        await runner.cleanup()


class _Server:
    def __init__(self, reader: Reader, pages: Pages, *, is_cluster: bool) -> None:
        self._reader = reader
        self._pages = pages
        self._is_cluster = is_cluster

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other hosts and methods, and answer errors with a page."""
        if not _is_own_host(request.headers.get("Host", "")):
            return web.Response(
                status=HTTPStatus.FORBIDDEN, text=f"open this page as http://{LOOPBACK} or http://localhost"
            )
        if request.method not in ("GET", "HEAD"):
            answer = self._error(HTTPStatus.METHOD_NOT_ALLOWED, "These pages are read-only: use GET.")
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return self._error(HTTPStatus.NOT_FOUND, f"There is no page {request.path}.")
        except UnknownNameError as error:
            return self._error(HTTPStatus.NOT_FOUND, str(error))
        except ClientError as error:
            return self._error(HTTPStatus.BAD_GATEWAY, str(error))
        except Exception:
            logger.exception("internal error while answering %s", request.path)
            return self._error(
                HTTPStatus.INTERNAL_SERVER_ERROR, "The server's output has the details of this error."
            )

    async def overview(self, request: web.Request) -> web.Response:
        query = request.query
        page = query.get("page", "")
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1
        show, search = query.get("show", ""), query.get("q", "")
        text = await in_daemon_thread(lambda: self._pages.overview(show=show, search=search, page=number))
        return _page(request, text)

    async def job(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return _page(request, await in_daemon_thread(lambda: self._pages.job(name)))

    async def gate(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return _page(request, await in_daemon_thread(lambda: self._pages.gate(name)))

    async def report(self, request: web.Request) -> web.Response:
        """Answer with a job's report. On a cluster, only a command fetches reports, because a pod has to read
        them."""
        name = request.match_info["name"]
        if self._is_cluster:
            raise ClientError(f"fetch the report of {name} with: {self._pages.report_command(name)}")
        body = await in_daemon_thread(lambda: self._reader.client.read_report(self._reader.job(name).obj))
        headers = {"Content-Security-Policy": _REPORT_POLICY}
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    def _error(self, status: HTTPStatus, message: str) -> web.Response:
        text = self._pages.error(status, message)
        return web.Response(status=status, text=text, content_type="text/html")


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["file"]
    if name not in _STATIC:
        raise web.HTTPNotFound
    text = files("tunegate_operator.ui").joinpath("static", name).read_text(encoding="utf-8")
    return _page(request, text, _STATIC[name])


def _page(request: web.Request, text: str, content_type: str = "text/html") -> web.Response:
    """Answer with ``text``, or with 304 if the browser has it already."""
    body = text.encode("utf-8", "replace")
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers={"ETag": etag})


def _is_own_host(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in OWN_HOSTS
    except ValueError:
        return False


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
