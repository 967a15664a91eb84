"""The HTTPS server that running pods report to. It acknowledges a report once it is in status."""

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

from tunegate_api.contract.report import report_path
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import ClusterError, Object
from tunegate_operator.engine.expiring_cache import ExpiringCache
from tunegate_operator.engine.reports import JobTooLargeError, StoreFullError
from tunegate_operator.reporting.body import (
    Bodies,
    OverloadedError,
    TooLargeError,
    UnreadableError,
    parse_report,
)
from tunegate_operator.reporting.certificates import KeyPair, is_due, make_serving
from tunegate_operator.reporting.connections import LIMITS, Connections, Limits
from tunegate_operator.reporting.senders import ForbiddenSenderError, SenderAuthenticator, UnknownPodError
from tunegate_operator.reporting.steps import ForeignReportError, Sender
from tunegate_operator.reporting.turns import Turn, Turns

logger = logging.getLogger(__name__)
_silent = logger.getChild("http")
_silent.setLevel(logging.CRITICAL)

READ_BUFFER_BYTES = 16 * 1024
"""The most bytes of a body that are read before the sender is authenticated."""
MAX_MESSAGE = 2000
"""The most characters of the message in a refusal."""
REFUSAL_LOG_SECONDS = 60.0
"""Seconds for which a repeated refusal with the same job and type of error is not logged again."""
REMEMBERED_REFUSALS = 4096
REVIEWS_AT_ONCE = 4
"""The most concurrent TokenReviews."""
ROTATION_SECONDS = 3600.0
"""Seconds between two checks whether the serving certificate is due for renewal."""

TakeReport = Callable[[Object], "Future[None]"]
"""A function that stores a report, and returns a future that is done when the report is acknowledged. Raises
JobTooLargeError and StoreFullError."""


class ReportServer:
    """An HTTPS server for reports. It runs in the event loop in which it is started.

    ``take`` passes a report to the engine; it is called in another thread. ``is_known`` returns whether a
    FineTuneJob with a given uid exists.
    """

    def __init__(
        self,
        authority: KeyPair,
        host: str,
        authenticator: SenderAuthenticator,
        take: TakeReport,
        *,
        is_known: Callable[[str], bool],
        clock: Clock,
        limits: Limits = LIMITS,
    ) -> None:
        self._authority = authority
        self._host = host
        self._authenticator = authenticator
        self._take = take
        self._is_known = is_known
        self._now = clock.now
        self._limits = limits
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._logged_refusals = ExpiringCache[bool](REMEMBERED_REFUSALS, REFUSAL_LOG_SECONDS, clock)
        self._turns = Turns()
        self._bodies = Bodies(limits.held)
        self._reviews = ThreadPoolExecutor(REVIEWS_AT_ONCE, thread_name_prefix="report-review")
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="report-parser")
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._rotation: asyncio.Task[None] | None = None

    async def start(self, port: int) -> None:
        """Listen on all addresses of this machine, and start to rotate the certificate. Raises OSError."""
        self._use(make_serving(self._authority, self._host, self._now()))
        app = web.Application(middlewares=[self._note_headers])
        app.router.add_post(report_path("{uid}"), self._post)
        app.on_response_prepare.append(_end_connection)
        self._runner = runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=self._limits.shutdown,
            lingering_time=self._limits.linger,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,
            logger=_silent,
        )
        await runner.setup()
        connections = Connections(self._limits, self._tls, cast("web.Server", runner.server))
        connections.listen(port)
        self._connections = connections
        self._rotation = asyncio.create_task(self._rotate())

    async def stop(self) -> None:
        """Answer the requests in progress, then close all connections."""
        if self._rotation:
            self._rotation.cancel()
        if self._connections:
            self._connections.stop_listening()
        if self._runner:
            await self._runner.cleanup()
        if self._connections:
            await self._connections.close()
        self._reviews.shutdown(wait=False, cancel_futures=True)
        self._parser.shutdown(wait=False, cancel_futures=True)

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATION_SECONDS)
            if not is_due(self._serving, self._now()):
                continue
            try:
                self._use(make_serving(self._authority, self._host, self._now()))
            except OSError as error:  # no disk space for its files; a third of the old one's lifetime is left
                logger.warning("the serving certificate of reports was not rotated: %s", error)
            else:
                logger.info("rotated the serving certificate of reports")

    def _use(self, serving: KeyPair) -> None:
        """Use this serving certificate for new connections. Raises OSError."""
        with tempfile.TemporaryDirectory() as folder:  # ssl reads files only
            key, certificate = Path(folder, "tls.key"), Path(folder, "tls.crt")
            key.touch(mode=0o600)
            key.write_bytes(serving.key)
            certificate.write_bytes(serving.certificate)
            self._tls.load_cert_chain(certificate, key)
        self._serving = serving

    @web.middleware
    async def _note_headers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Record that the headers of a request are complete, then let ``handler`` answer the request.

        An internal error of ``handler`` is logged here, because aiohttp's own logger is silenced: otherwise
        any client could fill the log with broken connections.
        """
        if self._connections:
            self._connections.has_headers(request.protocol)
        try:
            return await handler(request)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:
            logger.exception("internal error while answering a report")
            return _answer(500, "internal error: see the operator's log")

    async def _post(self, request: web.Request) -> web.Response:
        """Answer a POST request with a report. The sender is authenticated before the body is read."""
        uid = request.match_info["uid"]
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return _answer(401, "the request has no token: send the pod's token as Authorization: Bearer …")
        if not self._is_known(uid):
            return _answer(404, f"there is no FineTuneJob with uid {uid}")
        try:
            sender = await self._sender(token, uid)
            if self._connections:
                self._connections.has_sender(request.protocol, uid)
            promise = await self._receive(request, uid, sender)
        except ForbiddenSenderError as error:
            return self._refused(403, uid, error)
        except (TooLargeError, JobTooLargeError) as error:
            return self._refused(413, uid, error)
        except (UnreadableError, ForeignReportError) as error:
            return self._refused(422, uid, error)
        except TimeoutError:
            return _retry_later(f"the report was not read within {self._limits.body:.0f} s")
        except (UnknownPodError, ClusterError, OverloadedError, StoreFullError) as error:
            return _retry_later(str(error))
        return await self._wait_for_acknowledgement(promise)

    def _refused(self, code: int, uid: str, error: Exception) -> web.Response:
        """Answer with a refusal, and log it: at most once per REFUSAL_LOG_SECONDS for each job and type of
        error.

        The type is compared, not the message, because a sender can vary the message with every report.
        """
        message, reason = _one_line(error), f"{uid} {type(error).__name__}"
        if not self._logged_refusals.get(reason):
            self._logged_refusals.put(reason, True)
            logger.warning("a report on job %s was refused: %s", uid, message)
        return _answer(code, message)

    async def _sender(self, token: str, uid: str) -> Sender:
        """Authenticate the sender. A new token waits for one of a few threads, which limits the number of
        concurrent TokenReviews. A token with a cached result does not wait for these threads."""
        loop, authenticator = asyncio.get_running_loop(), self._authenticator
        threads = None if authenticator.is_cached(token, uid) else self._reviews
        return await loop.run_in_executor(threads, authenticator.authenticate, token, uid)

    async def _receive(self, request: web.Request, uid: str, sender: Sender) -> "Future[None]":
        """Read a report and pass it to the engine. One thread parses all reports; more threads would not be
        faster, because parsing holds the GIL."""
        loop = asyncio.get_running_loop()
        async with (
            asyncio.timeout(self._limits.body),
            self._turns.turn(uid) as turn,
            self._bodies.read(request) as body,
        ):
            return await loop.run_in_executor(self._parser, self._parse_and_take, body, uid, sender, turn)

    def _parse_and_take(self, body: bytes, uid: str, sender: Sender, turn: Turn) -> "Future[None]":
        with turn.measured():
            report = parse_report(body)
            if report.job_uid != uid:
                raise UnreadableError(f"jobUid: {report.job_uid[:64]} is not the job uid in the URL")
            sender.check_report(report)
            return self._take(report.model_dump(mode="json", by_alias=True, exclude_none=True))

    async def _wait_for_acknowledgement(self, promise: "Future[None]") -> web.Response:
        done, _ = await asyncio.wait([asyncio.wrap_future(promise)], timeout=self._limits.acknowledgement)
        if not done:
            promise.cancel()
            return _retry_later("the report is not in status yet")
        if promise.cancelled():
            return _answer(404, "the FineTuneJob was deleted")
        return _answer(200, "acknowledged")


async def _end_connection(_: web.Request, response: web.StreamResponse) -> None:
    """Close the connection after one request, so that the timeouts of a connection apply to one request."""
    response.force_close()


def _one_line(error: Exception) -> str:
    """Return the error's message as one line of limited length, because it may quote the sender's input."""
    line = " ".join(str(error).split())
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 1]}…"


def _answer(code: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=code)


def _retry_later(message: str) -> web.Response:
    return web.json_response({"message": message}, status=503, headers={"Retry-After": "1"})
