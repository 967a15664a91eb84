"""A TCP proxy that counts the bytes that a server sends, and breaks connections on request."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)
_BLOCK = 8192


class FaultyProxy:
    """Forwards ``127.0.0.1:port`` to the port ``upstream`` of the same host."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.served = 0
        """The number of bytes that the server has sent to clients."""
        self._limit: int | None = None
        self._at_limit: Callable[[], object] | None = None
        self._is_down = False
        self._answer = b""
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def break_after(self, count: int, then: Callable[[], object] | None = None) -> None:
        """Break the connection after ``count`` more bytes, and call ``then``."""
        self._limit, self._at_limit = self.served + count, then

    def go_down(self) -> None:
        """Break all connections, and refuse new ones until :meth:`come_up`."""
        self._is_down = True

    def come_up(self) -> None:
        self._is_down, self._limit = False, None

    def answer_next(self, status: str, headers: str) -> None:
        """Answer the next request of a new connection with an empty response, instead of the server."""
        lines = (f"HTTP/1.1 {status}", headers, "Content-Length: 0", "Connection: close", "", "")
        self._answer = "\r\n".join(lines).encode()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_down:
                    _reset(client)
                elif self._answer:
                    _respond(client, self._answer)
                    self._answer = b""
                else:
                    self._threads.append(threading.Thread(target=self._connect, args=(client,), daemon=True))
                    self._threads[-1].start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as server:
            self._open += [client, server]
            forward = threading.Thread(target=_forward, args=(client, server), daemon=True)
            forward.start()
            with suppress(OSError):
                self._serve(server, client)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            forward.join()

    def _serve(self, server: socket.socket, client: socket.socket) -> None:
        while not self._is_down and (block := server.recv(_BLOCK)):
            self.served += len(block)
            client.sendall(block)
            if self._limit is not None and self.served >= self._limit:
                then, self._limit = self._at_limit, None
                if then:
                    then()
                return


def _forward(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while block := client.recv(_BLOCK):
            server.sendall(block)
        server.shutdown(socket.SHUT_WR)


def _respond(client: socket.socket, answer: bytes) -> None:
    """Send ``answer`` to a request without a body."""
    with client:
        request = b""
        while not request.endswith(b"\r\n\r\n") and (block := client.recv(_BLOCK)):
            request += block
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
