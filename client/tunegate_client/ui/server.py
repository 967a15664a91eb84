"""The web server of the pages about jobs and gates: read-only, and reachable from this machine only."""

import logging
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from tunegate_client.places.caller import Caller
from tunegate_client.places.client import Client, ClientError, UnknownNameError
from tunegate_client.ui.local_server import make_local_app, page, refuse_other_host, serve_app
from tunegate_client.ui.pages import Pages
from tunegate_client.ui.reader import Reader
from tunegate_client.ui.threads import in_daemon_thread
from tunegate_operator.engine.clock import SystemClock

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
"""Timeout of the server's requests to a cluster. It is short, because a user waits for the page."""
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"
_REPORT_HEADERS = {
    "Content-Security-Policy": _REPORT_POLICY,
    "X-Frame-Options": "SAMEORIGIN",
}
"""The headers of a report, which has its styles inline and no scripts. The page of its job shows it."""


def make_app(client: Client, caller: Caller, *, is_cluster: bool) -> web.Application:
    """Return the application that serves the pages."""
    reader = Reader(client, SystemClock())
    server = _Server(reader, Pages(reader, caller, is_cluster=is_cluster), is_cluster=is_cluster)
    app = make_local_app(server.guard)
    app.router.add_get("/", server.overview)
    app.router.add_get("/jobs/{name}", server.job)
    app.router.add_get("/jobs/{name}/report", server.report)
    app.router.add_get("/gates/{name}", server.gate)
    return app


def serve(
    client: Client, caller: Caller, *, is_cluster: bool, port: int, started: Callable[[str], None]
) -> None:
    """Serve the pages until the process gets SIGINT or SIGTERM. Calls ``started`` with the address of the
    page. Raises OSError if the port is taken."""
    serve_app(lambda _: make_app(client, caller, is_cluster=is_cluster), port, started)


class _Server:
    def __init__(self, reader: Reader, pages: Pages, *, is_cluster: bool) -> None:
        self._reader = reader
        self._pages = pages
        self._is_cluster = is_cluster

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other hosts and methods, and answer errors with a page."""
        refused = refuse_other_host(request)
        if refused:
            return refused
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
        wanted = query.get("page", "")
        number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 8 else 1
        show, search = query.get("show", ""), query.get("q", "")
        text = await in_daemon_thread(lambda: self._pages.overview(show=show, search=search, page=number))
        return page(request, text)

    async def job(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return page(request, await in_daemon_thread(lambda: self._pages.job(name)))

    async def gate(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return page(request, await in_daemon_thread(lambda: self._pages.gate(name)))

    async def report(self, request: web.Request) -> web.Response:
        """Answer with a job's report. On a cluster, only a command fetches reports, because a pod has to read
        them."""
        name = request.match_info["name"]
        if self._is_cluster:
            raise ClientError(f"fetch the report of {name} with: {self._pages.report_command(name)}")
        body = await in_daemon_thread(lambda: self._reader.report(self._reader.job(name)))
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=_REPORT_HEADERS)

    def _error(self, status: HTTPStatus, message: str) -> web.Response:
        text = self._pages.error(status, message)
        return web.Response(status=status, text=text, content_type="text/html")
