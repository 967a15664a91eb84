"""What the web servers on this machine have in common: whom they answer, their headers and files, and their
end.

A web site in the user's browser may try to reach the server. It cannot read the pages, because they are not
shared with other origins, and a host name that an attacker points to this machine (DNS rebinding) is refused.
"""

import asyncio
import hashlib
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

SHUTDOWN_SECONDS = 2.0
"""How long the end of the process waits for requests that are being answered, in seconds. It does not wait
for a cluster that does not answer."""
LOOPBACK = "127.0.0.1"
OWN_HOSTS = (LOOPBACK, "localhost", "::1")
"""The host names by which a browser on this machine, or at the other end of an SSH tunnel, reaches it."""
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "private, no-cache",  # a browser asks each time whether the ETag is current
}


def make_local_app(middleware: Middleware) -> web.Application:
    """Return an application that serves the static files, and adds the headers to every answer."""
    app = web.Application(middlewares=[middleware])
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/static/{file}", _static)
    return app


def refuse_other_host(request: web.Request) -> web.Response | None:
    """Return the answer to a request with the name of another host; None for this machine's names."""
    if _is_own_host(request.headers.get("Host", "")):
        return None
    return web.Response(
        status=HTTPStatus.FORBIDDEN, text=f"open this page as http://{LOOPBACK} or http://localhost"
    )


def page(request: web.Request, text: str, content_type: str = "text/html") -> web.Response:
    """Answer with ``text``, or with 304 if the browser has it already."""
    body = text.encode("utf-8", "replace")
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers={"ETag": etag})


def serve_app(
    make_app: Callable[[asyncio.Event], web.Application], port: int, started: Callable[[str], None]
) -> None:
    """Serve an application on this machine until the process gets SIGINT, SIGTERM or SIGHUP, or until the
    application sets the event that ``make_app`` gets. Calls ``started`` with the address of the server.
    Raises OSError if the port is taken."""
    with _kept_handlers():
        asyncio.run(_serve(make_app, port, started))


async def _serve(
    make_app: Callable[[asyncio.Event], web.Application], port: int, started: Callable[[str], None]
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in _ENDS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored with nohup
            loop.add_signal_handler(number, stop.set)
    # aiohttp waits twice for a request that is being answered: before and after it cancels the request.
    runner = web.AppRunner(make_app(stop), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS / 2)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        started(f"http://{LOOPBACK}:{runner.addresses[0][1]}/")
        await stop.wait()
    finally:
        await runner.cleanup()


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Restore the handlers of signals, which asyncio resets to their defaults."""
    before = {number: signal.getsignal(number) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["file"]
    folder = files("tunegate_client.ui").joinpath("static")
    if name not in {file.name for file in folder.iterdir()}:
        raise web.HTTPNotFound
    text = folder.joinpath(name).read_text(encoding="utf-8")
    return page(request, text, _TYPES[name[name.rindex(".") :]])


def _is_own_host(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in OWN_HOSTS
    except ValueError:
        return False


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
