"""Run the operator with Kopf."""

import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.connection import connect
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.kopf_watches import kopf_settings, own_watches
from tunegate_operator.logs import set_up_logs
from tunegate_operator.manager import Manager
from tunegate_operator.settings import SettingsError, read_settings

GC_THRESHOLD = 50_000
"""How many new objects trigger a garbage collection. With Python's default of 700, hundreds of collections
run for each page of a LIST response, and take two thirds of the time for reading the page."""
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
    registry = own_watches(cluster, manager.watch_starts)
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


def _calling(method: Callable[[], Awaitable[None]]) -> Any:
    """Return a Kopf handler that calls ``method`` without Kopf's arguments."""

    async def handler(**_: Any) -> None:
        await method()

    return handler
