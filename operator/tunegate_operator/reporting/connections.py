"""Accept connections to the report address.

The number of connections is limited. Each connection serves one request, and has a timeout for its handshake,
for the headers and for the body.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

logger = logging.getLogger(__name__)

ACCEPT_PAUSE = 1.0
"""Seconds to wait if a connection could not be accepted, for example because no file descriptor is left."""


BUFFER_BYTES = 16 * 1024
"""Size of the buffers of a connection before and after TLS. The buffer of asyncio's TLS itself has 256 KiB
and cannot be changed, so a connection takes 335 KB."""

MAX_HEADER_BYTES = 64 * 1024
"""Limit for the bytes that a connection sends up to the end of its request's headers. A pod's token has about
1 KiB."""


@dataclass(frozen=True)
class Limits:
    """Limits for the clients of the report address. Times are in seconds."""

    connections: int = 256
    """The most connections, which take 86 MB."""
    per_source: int = 128
    """The most connections from one source address. All pods of a node may share one address, so a hundred
    pods behind one address can report at once."""
    per_job: int = 4
    """How many connections of one job are protected from being replaced by a new connection. Each pod sends
    one report at a time."""
    handshake: float = 5.0
    headers: float = 5.0
    """Timeout from the TLS handshake to the end of the request's headers."""
    body: float = 20.0
    """Timeout for reading the body and parsing it. Includes the wait for other reports of the same job."""
    held: int = 16 * 1024 * 1024
    """Total bytes of all bodies that are being read or wait to be parsed."""
    acknowledgement: float = 20.0
    """How long to wait until a report is in status. After this time, the sender is asked to retry."""
    connection: float = 90.0
    """Timeout for the whole connection. It is longer than the timeouts for handshake, headers, body and
    acknowledgement together."""
    tls_close: float = 5.0
    """Timeout for the client's answer to the TLS close."""
    linger: float = 5.0
    """How long the remaining bytes of a refused body are read and dropped. If the connection were closed at
    once, the sender might not read the answer."""
    shutdown: float = 5.0
    """How long shutdown waits for requests that are being answered."""


LIMITS = Limits()


class Connections:
    """Accepts TLS connections for an HTTP protocol, in the event loop in which it is started.

    If the number of connections is at its limit, a new connection replaces one whose sender is not
    authenticated: of the source address with the most such connections, the oldest one. So idle connections
    cannot lock out other clients. A new connection is closed before its handshake if the limit for its source
    address is reached, or if there is no connection that it may replace. Senders then retry with backoff.
    """

    def __init__(self, limits: Limits, tls: ssl.SSLContext, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._limits = limits
        self._tls = tls
        self._protocol = protocol
        self._sources: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[asyncio.Protocol, _Connection] = {}

    def listen(self, port: int) -> None:
        """Listen on all addresses of this machine. Raises OSError."""
        self._listener = _listener(port)
        self._accepting = asyncio.create_task(self._accept())

    def stop_listening(self) -> None:
        """Accept no more connections."""
        self._accepting.cancel()
        self._listener.close()

    async def close(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def has_headers(self, protocol: asyncio.Protocol) -> None:
        """Record that the headers of this connection's request are complete."""
        if protocol in self._open:
            self._open[protocol].has_headers.set()

    def has_sender(self, protocol: asyncio.Protocol, job_uid: str) -> None:
        """Record that the sender of this connection is authenticated. Up to ``per_job`` such connections of
        a job are never closed to make room for new connections."""
        of_job = sum(connection.job_uid == job_uid for connection in self._open.values())
        if protocol in self._open and of_job < self._limits.per_job:
            self._open[protocol].job_uid = job_uid

    async def _accept(self) -> None:
        loop, limits = asyncio.get_running_loop(), self._limits
        while True:
            try:
                connected, address = await loop.sock_accept(self._listener)
            except OSError as error:
                logger.warning("cannot accept connections for reports: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            source = address[0]
            if self._sources[source] >= limits.per_source or not await self._has_room():
                connected.close()
                continue
            self._sources[source] += 1
            task = asyncio.create_task(self._serve(connected, source))
            self._tasks.add(task)
            task.add_done_callback(partial(self._release, source))

    async def _has_room(self) -> bool:
        """Return whether another connection may be served. If the limit is reached, first close a connection
        whose sender is not authenticated."""
        if len(self._tasks) < self._limits.connections:
            return True
        await asyncio.sleep(0)  # so that connections accepted just now are in _open
        unknown = [connection for connection in self._open.values() if connection.job_uid is None]
        if not unknown:
            return False
        of_source = Counter(connection.source for connection in unknown)
        displaced = max(
            unknown, key=lambda connection: of_source[connection.source]
        )  # the first is the oldest
        displaced.task.cancel()
        await asyncio.wait([displaced.task])
        return True

    def _release(self, source: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        if not task.cancelled() and task.exception():
            logger.error("a connection for reports failed", exc_info=task.exception())

    async def _serve(self, connected: socket.socket, source: str) -> None:
        """Serve one connection until it is closed or a deadline expires."""
        loop, limits, inner = asyncio.get_running_loop(), self._limits, self._protocol()
        connection = self._open[inner] = _Connection(inner, source)
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(limits.connection):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: connection,
                    connected,
                    ssl=self._tls,
                    ssl_handshake_timeout=limits.handshake,
                    ssl_shutdown_timeout=limits.tls_close,
                )
                async with asyncio.timeout(limits.headers):
                    await connection.has_headers.wait()
                if connection.has_too_large_headers:
                    return
                await connection.is_lost.wait()
        except (OSError, TimeoutError) as error:
            logger.debug("a connection for reports ended: %s", error)
        finally:
            if transport:
                transport.abort()
            del self._open[inner]


class _Connection(asyncio.Protocol):
    """Passes a connection's data to the HTTP protocol ``inner``.

    Records when the headers are complete, and the job of an authenticated sender."""

    def __init__(self, inner: asyncio.Protocol, source: str) -> None:
        self._inner = inner
        self._received = 0
        self.source = source
        self.task = cast("asyncio.Task[None]", asyncio.current_task())
        self.job_uid: str | None = None
        """The uid of the authenticated sender's job. None if the sender is not authenticated, or if the job
        has ``per_job`` such connections already."""
        self.has_headers = asyncio.Event()
        self.has_too_large_headers = False
        self.is_lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Only TLS transports have these limits; their type is not public.
        transport.set_read_buffer_limits(high=BUFFER_BYTES)  # type: ignore[attr-defined]
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > MAX_HEADER_BYTES and not self.has_headers.is_set():
            self.has_too_large_headers = True
            self.has_headers.set()
            return
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_headers.set()
        self.is_lost.set()
        self._inner.connection_lost(exc)


def _listener(port: int) -> socket.socket:
    """Return a listening socket for IPv6 and IPv4, or only IPv4 if the machine has no IPv6."""
    try:
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
    except (OSError, ValueError):
        listener = socket.create_server(("", port), backlog=128)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)  # accepted sockets inherit it
    listener.setblocking(False)
    return listener
