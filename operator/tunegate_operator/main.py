"""Run the operator with Kopf, which watches FineTuneJobs and EvalGates and passes each event to the
engine."""

import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.connection import OPERATOR_AGENT, connect
from tunegate_operator.engine.kubernetes import OWN_RESOURCES, REQUEST_SECONDS, KubernetesCluster, Resource
from tunegate_operator.logs import set_up_logs
from tunegate_operator.manager import Manager
from tunegate_operator.settings import SettingsError, read_settings

WATCH_TIMEOUT_SECONDS = 60
"""Seconds after which a watch is reopened. Otherwise, a dead connection would look like a watch without
events."""
GC_THRESHOLD = 50_000
"""How many new objects trigger a garbage collection. With Python's default of 700, hundreds of collections
run for each page of a LIST response, and take two thirds of the time for reading the page."""
LIST_PAGE_SIZE = 10
"""Page size of Kopf's LIST requests. It is small because Kopf reads a whole page into memory, and each object
may have 1.5 MiB."""
KOPF_WORKERS = 16
KOPF_IDLE_SECONDS = 0.001
"""How long a worker of Kopf waits for the next event of the same object before it handles another object.

With 0.1 s, an event after a list of 5,000 objects waits half a minute. With 0, the worker stops waiting
before it receives its first event, and handles no event.
"""
SPARE_CONNECTIONS = 8
"""Connections to the API server in addition to one per worker: for the Lease, resyncs, watches and token
reviews."""


def main() -> int:
    """Run the operator until it is stopped. Return the exit code: 1 if the process lost the Lease or failed
    to lead, else 0."""
    try:
        settings = read_settings()
    except SettingsError as error:
        raise SystemExit(f"tunegate_operator: {error}") from error
    set_up_logs(settings.log_format, settings.log_level)
    gc.set_threshold(GC_THRESHOLD)
    clock, stop, lost = SystemClock(), threading.Event(), threading.Event()

    def give_up() -> None:
        lost.set()
        stop.set()

    async def start() -> None:
        try:
            await manager.start()
        except BaseException:  # failed or cancelled: Kopf then calls no cleanup handler
            await end()
            raise

    async def end() -> None:
        await manager.stop()
        stop.set()  # a thread of Kopf waits for it, and would keep the process alive

    cluster = KubernetesCluster(
        connect(settings.workers + SPARE_CONNECTIONS), clock, settings.watch_namespaces, settings.pod_name
    )
    manager = Manager(settings, cluster, clock, give_up)
    registry = routes(cluster)
    kopf.on.login(registry=registry)(log_in)
    kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(_calling(start))
    kopf.on.cleanup(registry=registry)(_calling(end))
    kopf.run(
        registry=registry,
        settings=kopf_settings(),
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        stop_flag=stop,
    )
    return 1 if lost.is_set() else 0


class _Connection(kopf.ConnectionInfo):
    """The connection of Kopf, whose requests name the operator instead of Kopf."""

    def as_http_headers(self) -> dict[str, str]:
        return super().as_http_headers() | {"User-Agent": OPERATOR_AGENT}


def log_in(**arguments: Any) -> kopf.ConnectionInfo | None:
    """Return the credentials for Kopf: those of the pod's service account or, outside a pod, of the user's
    kubeconfig."""
    found = kopf.login_via_client(**arguments)
    return found and _Connection(**vars(found))


def routes(cluster: KubernetesCluster) -> kopf.OperatorRegistry:
    """Return the Kopf handlers that deliver each event of a FineTuneJob or an EvalGate to the engine."""
    registry = kopf.OperatorRegistry()

    async def deliver(event: kopf.RawEvent, **_: Any) -> None:
        type = event["type"] or "LISTED"  # Kopf sets no type for listed objects
        if type != "BOOKMARK":
            cluster.deliver(type, dict(event["object"]))
        # Kopf leaves the event in a reference cycle, where it would stay until the next collection.
        event["object"].pop("spec", None)
        event["object"].pop("status", None)

    for resource in OWN_RESOURCES.values():
        kopf.on.event(*_selector(resource), registry=registry)(deliver)
    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """Return the settings of Kopf: it creates no Events, does not use peering, and all its requests have
    timeouts."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.server_timeout = WATCH_TIMEOUT_SECONDS
    settings.watching.client_timeout = WATCH_TIMEOUT_SECONDS + REQUEST_SECONDS
    settings.watching.chunk_size = LIST_PAGE_SIZE
    settings.networking.request_timeout = REQUEST_SECONDS
    # Delivering an object takes no time, so a few workers are enough; one for each object would cost memory.
    settings.queueing.worker_limit = KOPF_WORKERS
    settings.queueing.idle_timeout = KOPF_IDLE_SECONDS
    settings.persistence.diffbase_storage = _NoDifferences()
    return settings


class _NoDifferences(kopf.DiffBaseStorage):
    """A diff storage for Kopf that stores nothing. Kopf's default storage copies each object to compute the
    changes, which our handlers do not use."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> Any:  # noqa: ARG002 - Kopf names it
        return {}

    def fetch(self, *, body: kopf.Body) -> Any:  # noqa: ARG002 - Kopf names it
        return None

    def store(self, **_: Any) -> None:
        """Do nothing, because our handlers do not use differences."""


def _calling(method: Callable[[], Awaitable[None]]) -> Any:
    """Return a Kopf handler that calls ``method`` without Kopf's arguments."""

    async def handler(**_: Any) -> None:
        await method()

    return handler


def _selector(resource: Resource) -> tuple[str, str, str]:
    """Return the group, version and plural of a resource. The name of the core group is empty."""
    group, _, version = resource.api_version.rpartition("/")
    return group, version, resource.plural
