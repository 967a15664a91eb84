"""Kopf's side: a routing table, no logic. What Kopf sees goes to the engine."""

import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.kubernetes import (
    OWN_RESOURCES,
    REQUEST_SECONDS,
    KubernetesCluster,
    Resource,
    connect,
)
from tunegate_operator.logs import set_up_logs
from tunegate_operator.manager import Manager
from tunegate_operator.settings import SettingsError, read_settings

SILENT_SECONDS = 60
"""A watch that is silent for so long is opened anew: a dead connection says nothing either."""
COLLECT_AFTER = 50_000
"""New objects after which Python looks for cycles. After its own 700 it looks hundreds of times at each page
of a list, which takes two thirds of the time of reading it."""
LISTED_AT_ONCE = 10
"""Objects of a page of Kopf's lists, which it reads whole: each may have 1.5 MiB."""
HANDED_ON_AT_ONCE = 16
HAND_ON_SECONDS = 0.001
"""How long a task of Kopf waits for the next event of its object, which blocks one of the few places. With
0.1 s, an event after a list of 5,000 objects waits half a minute. It must be above 0: the wait would be over
before it begins, and the task would never get its event."""
SPARE_CONNECTIONS = 8
"""Of the client, besides one for each worker: Lease, resync, watches, token reviews."""


def main() -> int:
    """Run the operator until it is asked to stop. Returns the exit code."""
    try:
        settings = read_settings()
    except SettingsError as error:
        raise SystemExit(f"tunegate_operator: {error}") from error
    set_up_logs(settings.log_format, settings.log_level)
    gc.set_threshold(COLLECT_AFTER)
    clock, stop, lost = SystemClock(), threading.Event(), threading.Event()

    def give_up() -> None:
        lost.set()
        stop.set()

    async def start() -> None:
        try:
            await manager.start()
        except BaseException:  # failed, or was asked to stop before it was done: then Kopf cleans nothing up
            await end()
            raise

    async def end() -> None:
        await manager.stop()
        stop.set()  # a thread of Kopf's waits for it, and would keep the process alive

    cluster = KubernetesCluster(
        connect(settings.workers + SPARE_CONNECTIONS), clock, settings.watch_namespaces
    )
    manager = Manager(settings, cluster, clock, give_up)
    registry = routes(cluster)
    kopf.on.login(registry=registry)(kopf.login_via_client)
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


def routes(cluster: KubernetesCluster) -> kopf.OperatorRegistry:
    """The kinds that we define, each object delivered to the engine as it comes."""
    registry = kopf.OperatorRegistry()

    async def deliver(event: kopf.RawEvent, **_: Any) -> None:
        type = event["type"] or "LISTED"  # Kopf's lists have none
        if type != "BOOKMARK":
            cluster.deliver(type, dict(event["object"]))
        # Kopf leaves the event in a reference cycle, where it would stay until the next collection.
        event["object"].pop("spec", None)
        event["object"].pop("status", None)

    for resource in OWN_RESOURCES.values():
        kopf.on.event(*_selector(resource), registry=registry)(deliver)
    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """No events of Kopf's own, no peering, and bounded waits."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.scanning.disabled = True
    made.watching.server_timeout = SILENT_SECONDS
    made.watching.client_timeout = SILENT_SECONDS + REQUEST_SECONDS
    made.watching.chunk_size = LISTED_AT_ONCE
    made.networking.request_timeout = REQUEST_SECONDS
    # Handing on an object takes no time, so few are needed at once, and a task for each would cost memory.
    made.queueing.worker_limit = HANDED_ON_AT_ONCE
    made.queueing.idle_timeout = HAND_ON_SECONDS
    made.persistence.diffbase_storage = _NoDifferences()
    return made


class _NoDifferences(kopf.DiffBaseStorage):
    """A storage that remembers nothing. Kopf's default copies each object to find what changed, which our
    handlers do not ask for."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> Any:  # noqa: ARG002 - Kopf names it
        return {}

    def fetch(self, *, body: kopf.Body) -> Any:  # noqa: ARG002 - Kopf names it
        return None

    def store(self, **_: Any) -> None:
        """Do nothing: only other kinds of handlers store what they saw."""


def _calling(method: Callable[[], Awaitable[None]]) -> Any:
    """A Kopf handler that needs none of Kopf's arguments."""

    async def handler(**_: Any) -> None:
        await method()

    return handler


def _selector(resource: Resource) -> tuple[str, str, str]:
    """Group, version, plural; the group of the core is empty."""
    group, _, version = resource.api_version.rpartition("/")
    return group, version, resource.plural
