"""The address that running pods report to. A report is acknowledged once status says what it does."""

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path

from aiohttp import web
from pydantic import ValidationError

from tunegate_api.contract import Report, report_path
from tunegate_operator.engine.cluster import ClusterError, Object
from tunegate_operator.reporting.certificates import KeyPair, is_due, make_serving
from tunegate_operator.reporting.senders import RefusedError, Senders, UnknownPodError

log = logging.getLogger(__name__)

ACKNOWLEDGE_SECONDS = 20.0
"""How long a sender waits for its report to be in status before it is told to come again."""
ENDING_SECONDS = 5.0
"""How long a report that is being answered may hold up the end of the process."""
MAX_REPORT_BYTES = 8 * 1024 * 1024
ROTATION_SECONDS = 3600.0
"""Time between looks at the serving certificate."""

TakeReport = Callable[[Object], "Future[None]"]


class ReportServer:
    """HTTPS, in the event loop it is started in.

    ``take`` hands a report to the engine, ``is_known`` says whether a job is there.
    """

    def __init__(
        self,
        authority: KeyPair,
        host: str,
        senders: Senders,
        take: TakeReport,
        *,
        is_known: Callable[[str], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._authority = authority
        self._host = host
        self._senders = senders
        self._take = take
        self._is_known = is_known
        self._now = now
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._runner: web.AppRunner | None = None
        self._rotation: asyncio.Task[None] | None = None

    async def start(self, port: int) -> None:
        """Listen on every address, and rotate the certificate."""
        self._use(make_serving(self._authority, self._host, self._now()))
        app = web.Application(client_max_size=MAX_REPORT_BYTES)
        app.router.add_post(report_path("{uid}"), self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=ENDING_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, port=port, ssl_context=self._tls)
        await site.start()
        self._rotation = asyncio.create_task(self._rotate())

    async def stop(self) -> None:
        """Answer what is being asked, then close."""
        if self._rotation:
            self._rotation.cancel()
        if self._runner:
            await self._runner.cleanup()

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATION_SECONDS)
            if not is_due(self._serving, self._now()):
                continue
            try:
                self._use(make_serving(self._authority, self._host, self._now()))
            except OSError as error:  # no room for its files; a third of the old one's life is left
                log.warning("the serving certificate of reports is not rotated: %s", error)
            else:
                log.info("rotated the serving certificate of reports")

    def _use(self, serving: KeyPair) -> None:
        """From the next connection on."""
        with tempfile.TemporaryDirectory() as folder:  # ssl reads files only
            key, certificate = Path(folder, "tls.key"), Path(folder, "tls.crt")
            key.touch(mode=0o600)
            key.write_bytes(serving.key)
            certificate.write_bytes(serving.certificate)
            self._tls.load_cert_chain(certificate, key)
        self._serving = serving

    async def _post(self, request: web.Request) -> web.Response:
        uid = request.match_info["uid"]
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return _answer(401, "a report needs the pod's token: Authorization: Bearer …")
        if not self._is_known(uid):
            return _answer(404, f"there is no FineTuneJob with uid {uid}")
        try:
            await asyncio.to_thread(self._senders.check, token, uid)
        except RefusedError as error:
            log.warning("a report on job %s was refused: %s", uid, error)
            return _answer(403, str(error))
        except (UnknownPodError, ClusterError) as error:
            return _again(str(error))
        try:
            report = Report.model_validate_json(await request.read())
        except ValidationError as error:
            log.warning("a report on job %s cannot be read: %s", uid, error)
            return _answer(422, str(error))
        if report.job_uid != uid:
            return _answer(422, f"jobUid: {report.job_uid} is not the job of this address")
        return await self._acknowledged(report)

    async def _acknowledged(self, report: Report) -> web.Response:
        promise = self._take(report.model_dump(mode="json", by_alias=True, exclude_none=True))
        done, _ = await asyncio.wait([asyncio.wrap_future(promise)], timeout=ACKNOWLEDGE_SECONDS)
        if not done:
            promise.cancel()
            return _again("the report is not in status yet")
        if promise.cancelled():
            return _answer(404, "the FineTuneJob was deleted")
        return _answer(200, "acknowledged")


def _answer(code: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=code)


def _again(message: str) -> web.Response:
    return web.json_response({"message": message}, status=503, headers={"Retry-After": "1"})
