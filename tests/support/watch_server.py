"""A small API server that serves the lists and watches of Tunegate's kinds, as a test scripts them."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kopf
from aiohttp import web

from support.api_server import free_port
from tunegate_api import API_VERSION
from tunegate_operator.engine.kubernetes import OWN_RESOURCES

_EXTENSIONS = "apiextensions.k8s.io/v1"
"""The group of CustomResourceDefinitions. Kopf waits until it is served."""


class WatchServer:
    """Serves ``objects``, which all kinds share, and the events that :meth:`send` queues for each watch."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix  # of all paths
        self.port = free_port()
        self.objects: list[dict[str, Any]] = []
        self.version = 100
        self.token = "valid"
        """The bearer token that requests must have."""
        self.failing_lists = 0
        """Number of lists that are answered with HTTP 500."""
        self.lists: list[dict[str, str]] = []
        """The parameters of each list."""
        self.watches: list[dict[str, str]] = []
        """The parameters of each watch."""
        self.accepted: list[str] = []
        """The Accept header of each watch."""
        self._events: dict[str, asyncio.Queue[bytes]] = {}
        self._loop = asyncio.new_event_loop()

    def credentials(self) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=f"http://127.0.0.1:{self.port}{self._prefix}", token=self.token)

    def send(self, plural: str, type: str, obj: dict[str, Any]) -> None:
        """Send an event to the watch of a kind that is open, or that opens next."""
        self.send_text(plural, json.dumps({"type": type, "object": obj}).encode())

    def send_text(self, plural: str, event: bytes) -> None:
        """Send an event like :meth:`send`. The event is JSON."""
        self._loop.call_soon_threadsafe(self._queue(plural).put_nowait, event)

    @contextmanager
    def running(self) -> Iterator["WatchServer"]:
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        runner = web.AppRunner(self._app(), handler_cancellation=True, shutdown_timeout=1)
        asyncio.run_coroutine_threadsafe(self._start(runner), self._loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), self._loop).result(30)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)
            self._loop.close()

    async def _start(self, runner: web.AppRunner) -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._authenticate])
        app.router.add_get("/api", _answer({"versions": ["v1"]}))
        app.router.add_get("/api/v1", _answer({"resources": [_resource("namespaces", "Namespace")]}))
        app.router.add_get("/apis", _answer({"groups": [_group(API_VERSION), _group(_EXTENSIONS)]}))
        definitions = _resource("customresourcedefinitions", "CustomResourceDefinition")
        app.router.add_get(f"/apis/{_EXTENSIONS}", _answer({"resources": [definitions]}))
        ours = [_resource(resource.plural, kind) for kind, resource in OWN_RESOURCES.items()]
        app.router.add_get(f"/apis/{API_VERSION}", _answer({"resources": ours}))
        app.router.add_get(f"/apis/{API_VERSION}/{{plural}}", self._serve)
        if not self._prefix:
            return app
        outer = web.Application()
        outer.add_subapp(self._prefix, app)
        return outer

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"kind": "Status", "code": 401}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        if "watch" in query:
            self.watches.append(query)
            self.accepted.append(request.headers.get("Accept", ""))
            return await self._stream(request)
        self.lists.append(query)
        if self.failing_lists:
            self.failing_lists -= 1
            return web.json_response({"kind": "Status", "code": 500}, status=500)
        items = [] if "fieldSelector" in query else self.objects
        return web.json_response({"items": items, "metadata": {"resourceVersion": str(self.version)}})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue = self._queue(request.match_info["plural"])
        while True:
            event = await queue.get()
            await response.write(event + b"\n")
            if b'"type": "ERROR"' in event:
                return response

    def _queue(self, plural: str) -> "asyncio.Queue[bytes]":
        return self._events.setdefault(plural, asyncio.Queue())


def _group(api_version: str) -> dict[str, Any]:
    name, version = api_version.split("/")
    served = {"groupVersion": api_version, "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _resource(plural: str, kind: str) -> dict[str, Any]:
    verbs = ["list", "watch", "patch"]
    return {"name": plural, "singularName": "", "kind": kind, "namespaced": True, "verbs": verbs}


def _answer(body: dict[str, Any]) -> Any:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body)

    return answer
