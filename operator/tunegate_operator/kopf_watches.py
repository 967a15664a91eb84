"""Let Kopf watch FineTuneJobs and EvalGates, and pass each event to the engine.

Kopf reads a list before each watch, and handles its objects one by one. The engine lists the same objects in
larger pages, and must compare them with its cache, because Kopf does not find objects that were deleted
meanwhile. Therefore Kopf's list is requested with a selector that no object matches. Kopf takes only the
version from it and opens its watch at once, and the engine lists the objects. The watches report only the
metadata, and the engine reads an object that changed, because large objects of one namespace would delay the
events of all others: docs/adr/0001-kopf-events-only.md.
"""

from collections.abc import AsyncIterator, Callable
from functools import lru_cache, partial
from typing import Any, cast

import aiohttp
import kopf

from tunegate_operator.engine.connection import OPERATOR_AGENT
from tunegate_operator.engine.kubernetes import (
    METADATA,
    OWN_RESOURCES,
    REQUEST_SECONDS,
    KubernetesCluster,
    Resource,
)
from tunegate_operator.engine.nesting import shallow

WATCH_TIMEOUT_SECONDS = 60
"""Seconds after which a watch is reopened. Otherwise, a dead connection would look like a watch without
events."""
KOPF_WORKERS = 16
KOPF_IDLE_SECONDS = 0.001
"""How long a worker of Kopf waits for the next event of the same object before it handles another object.

With 0.1 s, an event after changes of 5,000 objects waits half a minute. With 0, the worker stops waiting
before it receives its first event, and handles no event.
"""
NO_OBJECT = "metadata.name=-"
"""A field selector that matches no object, because "-" is no valid name."""
KNOWN_CREDENTIALS = 4
"""Number of credentials whose sessions are remembered. Kopf remembers three that were refused."""

Login = Callable[..., kopf.ConnectionInfo | None]
OnStart = Callable[[str, str | None], None]
"""Called with a kind and a namespace, or None for all, when Kopf has read the version from which it watches
them."""


def own_watches(
    cluster: KubernetesCluster, on_start: OnStart, login: Login = kopf.login_via_client
) -> kopf.OperatorRegistry:
    """Return the handlers with which Kopf logs in, and delivers each event of a FineTuneJob or an EvalGate to
    ``cluster``. ``on_start`` must not block. It must make the engine list the kind."""
    registry = kopf.OperatorRegistry()
    middleware = _middleware(cluster.namespaces, on_start)
    # Kopf recognizes credentials that the server refused only if they come with the same session.
    session = lru_cache(KNOWN_CREDENTIALS)(partial(_session, middleware))

    async def open_session(**arguments: Any) -> kopf.AiohttpSession | None:
        found = login(**arguments)
        return session(found) if found else None

    async def deliver(event: kopf.RawEvent, resource: kopf.Resource, **_: Any) -> None:
        if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
            obj = {"kind": resource.kind, "metadata": event["object"]["metadata"]}
            cluster.deliver("DELETED" if event["type"] == "DELETED" else "CHANGED", obj)

    kopf.on.login(registry=registry)(open_session)
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


def _middleware(namespaces: tuple[str | None, ...], on_start: OnStart) -> aiohttp.ClientMiddlewareType:
    """Return a middleware for requests about Tunegate's kinds. It removes all objects from lists, and reports
    each list. Watches report only the metadata of objects. It limits how deeply their JSON is nested, because
    Kopf ends the operator after an event that it cannot parse."""
    starts = {
        resource.path(namespace): partial(on_start, kind, namespace)
        for kind, resource in OWN_RESOURCES.items()
        for namespace in namespaces
    }

    async def send(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        start = next((start for path, start in starts.items() if request.url.path.endswith(path)), None)
        if start is None:
            return await handler(request)
        if "watch" in request.url.query:
            request.headers["Accept"] = METADATA
            response = await handler(request)
            if response.ok:
                response.content = cast("aiohttp.StreamReader", _ShallowLines(response.content))
            return response
        request.url = request.url.update_query(fieldSelector=NO_OBJECT)
        response = await handler(request)
        if response.ok:
            start()
        return response

    return send


class _ShallowLines:
    """The content of a watch, of which Kopf reads chunks with whole lines here. All other attributes are
    those of the content."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield shallow(line) + b"\n"
        if rest:
            yield shallow(rest)


def _session(middleware: aiohttp.ClientMiddlewareType, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """Return a session like the one that Kopf would open, with a middleware."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers=info.as_http_headers() | {"User-Agent": OPERATOR_AGENT},
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        middlewares=(middleware,),
    )
    return kopf.AiohttpSession(
        server=info.server,
        aiohttp_session=session,
        priority=info.priority,
        default_namespace=info.default_namespace,
        expiration=info.expiration,
    )


def _selector(resource: Resource) -> tuple[str, str, str]:
    """Return the group, version and plural of a resource. The name of the core group is empty."""
    group, _, version = resource.api_version.rpartition("/")
    return group, version, resource.plural
