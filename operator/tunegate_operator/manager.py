"""Run the parts of an operator process that Kopf does not run: the watches of children, leader election,
workers, the report server and the probes."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from aiohttp import web

from tunegate_api.backoff import backoff
from tunegate_operator.children.job import PodSettings, ReportTo
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import ClusterError, RestoredFromBackupError
from tunegate_operator.engine.kubernetes import CHILD_RESOURCES, OWN_RESOURCES, KubernetesCluster
from tunegate_operator.engine.lease import Lease
from tunegate_operator.engine.listing import Listing, WatchStarts
from tunegate_operator.engine.queue import WorkQueue
from tunegate_operator.engine.reconcile import Reconciler
from tunegate_operator.engine.reflector import Reflector
from tunegate_operator.engine.signatures import Signer
from tunegate_operator.evalgate.controller import EvalGateController
from tunegate_operator.finetunejob.controller import FineTuneJobController
from tunegate_operator.metrics.page import ResourcePage
from tunegate_operator.metrics.process import CONTENT_TYPE, OperatorMetrics
from tunegate_operator.reporting.address import publish_address, report_host
from tunegate_operator.reporting.certificates import KeyPair, load_authority
from tunegate_operator.reporting.senders import SenderAuthenticator
from tunegate_operator.reporting.server import ReportServer
from tunegate_operator.settings import Settings

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

LEASE = "tunegate-operator"
AUTHORITY = "tunegate-report-ca"
FIRST_RETRY, LONGEST_RETRY = 1.0, 30.0
"""Seconds between retries of a request without which the process cannot start. The pause doubles with each
failure, up to the longest."""
SYNC_POLL_SECONDS = 0.5
"""Interval in seconds at which a leader that waits for the first lists checks whether it must stop."""
SYNC_WARNING_SECONDS = 30.0
"""Seconds between two warnings of a leader that waits for the first lists."""
FRESH_SECONDS = 10.0
"""How old, in seconds, the last list of a kind may be when a process starts to lead. Kinds with an older list
are listed again, because a watch may hang for over a minute."""
METRICS_BATCH, METRICS_PAUSE_SECONDS, METRICS_SECONDS = 20, 0.03, 5.0
"""How many changed objects are read at once for their metrics, the pause before further ones, and the pause
if there are no more, in seconds. A scrape reads the objects that changed since."""
STOP_SECONDS = 10.0
"""How many seconds a stopping process waits for each of its threads."""


def kinds_to_list(listings: Iterable[Listing], now: float) -> list[str]:
    """Return the kinds that a new leader lists before its first decision: those whose last list is too old at
    the monotonic time ``now``, children first."""
    old = {listing.kind for listing in listings if listing.listed_at < now - FRESH_SECONDS}
    return [kind for kind in (*CHILD_RESOURCES, *OWN_RESOURCES) if kind in old]


class Manager:
    """One operator process. Only the leader reconciles. The other replicas cache the child objects, and list
    all objects when they begin to lead.

    ``lost`` is called from a thread when the process must exit, because it lost the Lease, failed to lead, or
    the cluster was restored from a backup.
    """

    def __init__(
        self, settings: Settings, cluster: KubernetesCluster, clock: Clock, lost: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._clock = clock
        self._lost = lost
        self._cache = Cache(cluster.get)
        self._queue = WorkQueue(clock, at_once=max(1, settings.workers - 1))
        self._stop = threading.Event()
        self._is_idle = threading.Event()
        """Set once no decision is in progress. The Lease may then be released."""
        self._threads: list[threading.Thread] = []
        self._listings: list[Listing] = []
        self._watch_starts: dict[tuple[str, str | None], WatchStarts] = {}
        self._leads = threading.Event()
        """Set once this replica holds the Lease and has the first lists."""
        self._has_metrics = threading.Event()
        """Set once all listed objects were read for their metrics, which are exported only after that."""
        self._metrics = OperatorMetrics(OWN_RESOURCES, self._queue.depth, self._is_leader)
        self._resources = ResourcePage(
            self._cache.by_uid, clock, lambda: self._has_metrics.is_set() and self._is_leader()
        )
        self._cache.on_change = self._resources.changed
        cluster.on_request = self._metrics.requested
        self._probes: web.AppRunner | None = None
        self._server: ReportServer | None = None

    async def start(self) -> None:
        """Serve the health probes, start the watches, and take part in the leader election."""
        self._loop = asyncio.get_running_loop()
        await self._answer_probes()
        authority = await asyncio.to_thread(self._retry, "the certificate authority", self._authority)
        if authority is None:  # the process was stopped before the authority existed
            return
        self._cache.signer = Signer(authority.key)
        # After this, Kopf discovers once which kinds the API server serves. It would never watch kinds that
        # are not defined by then.
        await asyncio.to_thread(self._retry, "the CustomResourceDefinitions", self._find_definitions)
        host = report_host(self._settings.report_service, self._settings.pod_namespace)
        report_to = ReportTo(f"https://{host}", authority.certificate.decode())
        pods = PodSettings(
            self._settings.trainer_image,
            report_to,
            allowed_local_addresses=self._settings.allowed_local_addresses,
        )
        reconciler = Reconciler(
            self._cluster,
            self._cache,
            self._queue,
            [FineTuneJobController(pods, self._settings.required_gates), EvalGateController()],
            self._clock,
            observe=self._metrics.reconciled,
            count_failure=self._metrics.failed,
        )
        self._cluster.watch(reconciler.handle)
        authenticator = SenderAuthenticator(self._cluster.review_token, self._cache, self._clock)
        self._server = server = ReportServer(
            authority,
            host,
            authenticator,
            reconciler.handle_report,
            is_known=authenticator.is_known_job,
            clock=self._clock,
        )
        for kind in (*CHILD_RESOURCES, *OWN_RESOURCES):
            for namespace in self._cluster.namespaces:
                self._keep_current(
                    Listing(kind, namespace, partial(reconciler.resync, kind, namespace=namespace))
                )
        self._run("lease", lambda: self._run_election(reconciler, server))

    def _keep_current(self, listing: Listing) -> None:
        """Watch a kind of children. Kopf watches the other kinds, which are only listed here."""
        self._listings.append(listing)
        watch: Reflector | WatchStarts
        if listing.kind in CHILD_RESOURCES:
            watch = Reflector(self._cluster, listing)
        else:
            watch = self._watch_starts[listing.kind, listing.namespace] = WatchStarts(listing)
        self._run(f"watch-{listing.kind}", partial(watch.run, self._stop))

    def watch_starts(self, kind: str, namespace: str | None) -> None:
        """List one of Tunegate's kinds, because Kopf starts to watch it from the current version. Returns at
        once."""
        self._watch_starts[kind, namespace].note()

    async def stop(self) -> None:
        """Finish the decisions in progress, then release the Lease, then close the health probes. If a
        decision does not finish in time, the Lease is not released and expires."""
        self._stop.set()
        self._queue.shut_down()
        if self._server:
            await self._server.stop()
        # Do not wait for watches, which read until the API server closes the connection.
        deciding = [thread for thread in self._threads if not thread.name.startswith(("watch-", "lease"))]
        for thread in deciding:
            await asyncio.to_thread(thread.join, STOP_SECONDS)
        if any(thread.is_alive() for thread in deciding):
            logger.warning("a decision has not finished: the Lease is not released, and will expire")
        else:
            self._is_idle.set()
            for thread in self._threads:
                if thread.name == "lease":
                    await asyncio.to_thread(thread.join, STOP_SECONDS)
        if self._probes:
            await self._probes.cleanup()

    # Leading

    def _run_election(self, reconciler: Reconciler, server: ReportServer) -> None:
        settings = self._settings
        lease = Lease(self._cluster, self._clock, settings.pod_namespace, LEASE, settings.pod_name)

        # In a separate thread, because the Lease must be renewed meanwhile.
        def lead() -> None:
            if not self._stop.is_set():
                self._run("start", lambda: self._lead(reconciler, server))

        held = False
        try:
            held = lease.lead(lead, self._is_idle)
        except Exception:
            logger.exception("leader election failed; this process exits, so that another can lead")
        finally:  # the Lease is no longer renewed, even after an error
            if not held:
                self._give_up()

    def _give_up(self) -> None:
        """Stop making decisions, and make this process exit, so that another process can lead."""
        self._stop.set()
        self._queue.shut_down()
        self._lost()

    def _lead(self, reconciler: Reconciler, server: ReportServer) -> None:
        try:
            self._start_leading(reconciler, server)
        except Exception:
            logger.exception("leading failed; this process exits, so that another can lead")
            self._give_up()

    def _start_leading(self, reconciler: Reconciler, server: ReportServer) -> None:
        began = time.monotonic()
        for listing in self._listings:
            self._wait_for(listing)
        kinds = kinds_to_list(self._listings, began)
        if kinds:  # without kinds, resync would list all
            self._retry("the first list", lambda: reconciler.resync(*kinds))
        self._leads.set()
        for n in range(self._settings.workers):
            self._run(f"worker-{n}", lambda: reconciler.run_worker(self._stop))
        self._listen_for_reports(server)
        self._run("resync", lambda: self._resync_periodically(reconciler))
        self._run("metrics", self._refresh_metrics)
        self._retry("the report address", self._publish_address)
        logger.info("started reconciling %.1f s after the Lease was acquired", time.monotonic() - began)

    def _wait_for(self, listing: Listing) -> None:
        """Wait until the first list is complete, or the process is stopped."""
        warn_at = time.monotonic() + SYNC_WARNING_SECONDS
        while not (listing.is_synced.wait(SYNC_POLL_SECONDS) or self._stop.is_set()):
            if time.monotonic() >= warn_at:
                where = f" in namespace {listing.namespace}" if listing.namespace else ""
                logger.warning(
                    "this replica leads, but still waits for the first list of %ss%s", listing.kind, where
                )
                warn_at += SYNC_WARNING_SECONDS

    def _resync_periodically(self, reconciler: Reconciler) -> None:
        while not self._stop.wait(self._settings.resync_seconds):
            # The address is not watched, and without it no pod can report.
            for what, work in (("the report address", self._publish_address), ("resync", reconciler.resync)):
                try:
                    work()
                except ClusterError as error:  # watches continue, and the next resync comes soon
                    logger.warning("%s: %s", what, error)

    def _refresh_metrics(self) -> None:
        """Read the changed objects for their metrics, few at a time, so that thousands of listed objects do
        not delay the first decisions."""
        is_last = False
        while not self._stop.wait(METRICS_SECONDS if is_last else METRICS_PAUSE_SECONDS):
            is_last = self._resources.refresh(METRICS_BATCH)
            if is_last:
                self._has_metrics.set()

    def _listen_for_reports(self, server: ReportServer) -> None:
        starting = server.start(self._settings.report_port)
        asyncio.run_coroutine_threadsafe(starting, self._loop).result(STOP_SECONDS)

    def _publish_address(self) -> None:
        """Publish this pod's address as the report address. Only the leader calls this, because only the
        leader writes status, which acknowledges reports."""
        settings = self._settings
        publish_address(
            self._cluster,
            settings.report_service,
            settings.pod_namespace,
            settings.pod_ip,
            settings.report_port,
        )

    def _find_definitions(self) -> None:
        for kind in OWN_RESOURCES:
            for namespace in self._cluster.namespaces:
                self._cluster.current_version(kind, namespace)

    def _authority(self) -> KeyPair:
        return load_authority(self._cluster, self._settings.pod_namespace, AUTHORITY, self._clock.now())

    def _retry(self, what: str, work: Callable[[], _Result]) -> _Result | None:
        """Call ``work`` until it succeeds, and return its result; None if the process is stopped before
        that."""
        failures = 0
        while not self._stop.is_set():
            try:
                return work()
            except ClusterError as error:
                failures += 1
                pause = backoff(FIRST_RETRY, LONGEST_RETRY, failures)
                logger.warning("%s: %s; retrying in %.0f s", what, error, pause)
            self._stop.wait(pause)
        return None

    # Threads and probes

    def _run(self, name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except RestoredFromBackupError as error:
                logger.error("%s; this process exits, so that it starts with an empty cache", error)
                self._give_up()

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)  # after its start: a probe may check it at any moment

    async def _answer_probes(self) -> None:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        self._probes = web.AppRunner(app, access_log=None)
        await self._probes.setup()
        await web.TCPSite(self._probes, None, self._settings.health_port).start()

    def _is_leader(self) -> bool:
        return self._leads.is_set() and not self._stop.is_set()

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        page = await asyncio.to_thread(lambda: self._metrics.page() + self._resources.text())
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})

    async def _healthz(self, _: web.Request) -> web.Response:
        dead = [t.name for t in self._threads if t.name != "start" and not t.is_alive()]
        if dead and not self._stop.is_set():
            return web.Response(status=500, text=f"threads ended: {', '.join(dead)}\n")
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if not self._threads:
            return web.Response(status=503, text="starting\n")
        return web.Response(text="ok\n")
