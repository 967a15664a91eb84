"""An HTTP server in a thread. A function returns the responses, and the server supports range requests."""

import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """A GET or POST request."""

    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class WebServer:
    """Serves the responses of ``answer`` on a free port, over https if ``tls`` is given. ``requests`` has all
    requests."""

    def __init__(self, answer: Callable[[Request], Response], tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        requests = self.requests
        self.ignores_ranges = False
        self.hides_sizes = False
        """Whether responses are sent in chunks, without their size."""
        self.hides_times = False
        """Whether answers to If-Range have no Last-Modified, as RFC 9110 recommends in section 15.3.7."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Otherwise, each body waits 40 ms until its headers are acknowledged.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(unquote(url.path), query, self.headers, content)
                requests.append(request)
                found = answer(request)
                if not server.ignores_ranges:
                    found = _range(request, found)
                if server.hides_times and found.status == 206 and "If-Range" in request.headers:
                    found.headers.pop("Last-Modified", None)
                self.send_response(found.status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                if server.hides_sizes:
                    self.send_header("Transfer-Encoding", "chunked")
                    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(found.body), found.body)
                else:
                    self.send_header("Content-Length", str(len(found.body)))
                    body = found.body
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Log nothing. Tests read ``requests``."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Ignore clients that disconnect, which many tests do on purpose."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _range(request: Request, answer: Response) -> Response:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if match is None or answer.status != 200:
        return answer
    validators = (answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
    if request.headers.get("If-Range", validators[0]) not in validators:
        return answer
    start, size = int(match[1]), len(answer.body)
    if start >= size:
        return Response(416, headers={"Content-Range": f"bytes */{size}"})
    end = min(int(match[2] or size), size - 1)
    headers = {**answer.headers, "Content-Range": f"bytes {start}-{end}/{size}"}
    return Response(206, answer.body[start : end + 1], headers)


def damaged(content: bytes) -> bytes:
    """Return the content with one bit in the middle flipped."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
