"""Send requests to the API server. Objects are plain JSON. Each error has the class of
:mod:`tunegate_operator.engine.cluster` that determines how callers handle it.

Requests are not retried here: the caller decides again after its own backoff. Kopf and the reflectors open
the watches, and pass the events to :meth:`KubernetesCluster.deliver`.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client

from tunegate_api import API_VERSION
from tunegate_operator.engine.answers import parse_answer, read_at_most
from tunegate_operator.engine.api_errors import error_of, error_of_answer
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    Key,
    NotFoundError,
    Object,
    WatchEvent,
)
from tunegate_operator.engine.events import new_event
from tunegate_operator.engine.objects import read_json, timestamp, without_managed_fields
from tunegate_operator.engine.pages import PAGE, PAGE_BYTES, read_pages
from tunegate_operator.names import MANAGED_LABELS

REQUEST_SECONDS = 30.0
"""Default timeout of a request."""
LEASE_SECONDS = 2.0
"""Timeout of a request for a Lease: see :data:`tunegate_operator.engine.lease.RENEW_DEADLINE`."""


class SilentError(ClusterError):
    """The server sent nothing for as long as the caller allows."""


@dataclass(frozen=True)
class Resource:
    """The URL path of a kind, and the settings of its requests, lists and watches."""

    api_version: str
    plural: str
    labels: str = ""
    """Label selector of lists and watches, applied by the server."""
    seconds: float | None = None
    """Timeout of a request for one object. None stands for the timeout of the cluster."""
    metadata_only: bool = False
    """Whether lists and watches return the metadata only."""
    is_namespaced: bool = True

    def path(self, namespace: str | None, name: str = "") -> str:
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        inside = f"/namespaces/{quote(namespace, safe='')}" if namespace and self.is_namespaced else ""
        return f"{root}{inside}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


_MANAGED_SELECTOR = ",".join(f"{label}={value}" for label, value in MANAGED_LABELS.items())
OWN_RESOURCES = {
    "FineTuneJob": Resource(API_VERSION, "finetunejobs"),
    "EvalGate": Resource(API_VERSION, "evalgates"),
}
"""The kinds that Tunegate defines."""
CHILD_RESOURCES = {
    "Job": Resource("batch/v1", "jobs", _MANAGED_SELECTOR),
    "Pod": Resource("v1", "pods", _MANAGED_SELECTOR),
    "ConfigMap": Resource("v1", "configmaps", metadata_only=True),
}
"""Kinds of child objects that are listed and watched. ConfigMaps have no label selector, because the
operator also reads those of users."""
_UNWATCHED = {
    "Lease": Resource("coordination.k8s.io/v1", "leases", seconds=LEASE_SECONDS),
    "Secret": Resource("v1", "secrets"),
    "EndpointSlice": Resource("discovery.k8s.io/v1", "endpointslices"),
    "Service": Resource("v1", "services"),
    "Namespace": Resource("v1", "namespaces", is_namespaced=False),
}
"""Kinds that are neither listed nor watched: the operator's own objects, the Services of multi-pod training,
which are deleted with their owner, and Namespaces, which are read when a job starts."""
_RESOURCES = OWN_RESOURCES | CHILD_RESOURCES | _UNWATCHED
_EVENTS = Resource("v1", "events")
_JSON = "application/json"
_WRITES = ("POST", "PUT", "PATCH")
_MERGE_PATCH = "application/merge-patch+json"
METADATA = f"{_JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = f"{_JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Accept headers that request the metadata only."""
_TOKEN_REVIEWS = Resource("authentication.k8s.io/v1", "tokenreviews")
_SELF_REVIEWS = Resource("authentication.k8s.io/v1", "selfsubjectreviews")


class KubernetesCluster:
    """Implements :class:`tunegate_operator.engine.cluster.Cluster` with an API server. Thread-safe.

    Lists read only the objects in ``namespaces``; if this is empty, they read all namespaces.
    ``instance`` names this process in Events, for example by its pod. ``seconds`` is the timeout of a
    request. The user agent of ``api`` names the program, and its part before the slash the field manager of
    what it writes.
    ``on_request`` is called after each request with its method, the resource such as "jobs", and the HTTP
    status, which is 0 if there was no answer.
    """

    def __init__(
        self,
        api: client.ApiClient,
        clock: Clock,
        namespaces: tuple[str, ...] = (),
        instance: str = "",
        seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._api = api
        self._seconds = seconds
        self._instance = instance
        self._clock = clock
        self.namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._listeners: list[Callable[[WatchEvent], None]] = []
        self.on_request: Callable[[str, str, int], None] = lambda *_: None

    def list_objects(self, kind: str, namespace: str | None = None, labels: str = "") -> Iterator[Object]:
        """List the objects of a kind, see :class:`Cluster`. ``labels`` is a selector in addition to the
        kind's."""
        for each in (namespace,) if namespace else self.namespaces:
            yield from self._list(kind, each, labels)

    def get(self, key: Key) -> Object | None:
        resource = _RESOURCES[key.kind]
        try:
            return self._request("GET", resource.path(key.namespace, key.name), seconds=resource.seconds)
        except NotFoundError:
            return None

    def watch(self, listener: Callable[[WatchEvent], None]) -> None:
        self._listeners.append(listener)

    def current_version(self, kind: str, namespace: str | None) -> str:
        """Return the current resourceVersion of a kind.

        A watch from this version sees every change that is missing in a list requested after this call."""
        resource = _RESOURCES[kind]
        query = {"limit": "1", "labelSelector": resource.labels}
        accept = _METADATA_LIST  # the list's own metadata is enough
        answer = self._request("GET", resource.path(namespace), query=query, accept=accept)
        version: str = answer["metadata"]["resourceVersion"]
        return version

    def watch_from(
        self, kind: str, namespace: str | None, since: str, seconds: int, name: str = ""
    ) -> Iterator[Object]:
        """Yield the events after the resourceVersion ``since``, including bookmarks, until the server ends
        the watch after ``seconds``. With a ``name``, watch only the object with this name.

        Raises ExpiredError if the server no longer has this version, and ClusterError.
        """
        resource = _RESOURCES[kind]
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": resource.labels,
            "fieldSelector": name and f"metadata.name={name}",
            "resourceVersion": since,
            "timeoutSeconds": str(seconds),
        }
        path, accept = resource.path(namespace), METADATA if resource.metadata_only else _JSON
        for line in self._lines(path, query, seconds + REQUEST_SECONDS, accept):
            try:
                event: Object = read_json(line)
            except ValueError as error:
                raise ClusterError(f"GET {path}: {error}") from error
            if event["type"] == "ERROR":
                raise error_of(event["object"].get("code", 500), event["object"])
            yield event | {"object": _with_kind(kind, event["object"])}

    def read_log(self, pod: Key, query: dict[str, str], seconds: float) -> Iterator[bytes]:
        """Yield the lines of a pod's log. ``query`` has the parameters of the request, such as ``follow``.

        Raises SilentError if no line arrives for ``seconds``, and ClusterError.
        """
        path = _RESOURCES["Pod"].path(pod.namespace, pod.name) + "/log"
        return self._lines(path, query, seconds, accept=f"{_JSON}, */*")

    def deliver(self, type: Literal["ADDED", "MODIFIED", "CHANGED", "DELETED"], obj: Object) -> None:
        """Call the listeners with an event from a watch."""
        for listener in self._listeners:
            listener(WatchEvent(type, obj))

    def create(self, obj: Object) -> Object:
        key, resource = Key.of(obj), _RESOURCES[obj["kind"]]
        return self._request("POST", resource.path(key.namespace), obj, seconds=resource.seconds)

    def replace(self, obj: Object) -> Object:
        key, resource = Key.of(obj), _RESOURCES[obj["kind"]]
        path = resource.path(key.namespace, key.name)
        return self._request("PUT", path, obj, seconds=resource.seconds)

    def delete(self, key: Key, uid: str) -> None:
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        with suppress(NotFoundError, ConflictError):  # deleted, or the name belongs to another object
            self._request("DELETE", _RESOURCES[key.kind].path(key.namespace, key.name), options)

    def user_name(self) -> str:
        """Return the name of the user that the API server authenticates these requests as."""
        body = {"apiVersion": _SELF_REVIEWS.api_version, "kind": "SelfSubjectReview"}
        found = self._request("POST", _SELF_REVIEWS.path(None), body)
        return str(found["status"]["userInfo"]["username"])

    def patch(self, key: Key, patch: Object) -> Object:
        """Change fields of an object with a JSON merge patch. Returns the whole object."""
        path = _RESOURCES[key.kind].path(key.namespace, key.name)
        return self._request("PATCH", path, patch, content_type="application/merge-patch+json")

    def patch_status(self, key: Key, status: Object, resource_version: str) -> Object:
        # Setting resourceVersion makes the server compare it. A failed "test" operation would be Invalid.
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = _RESOURCES[key.kind].path(key.namespace, key.name) + "/status"
        return self._request("PATCH", path, patch, content_type="application/json-patch+json")

    def patch_finalizers(self, key: Key, finalizers: list[str], resource_version: str) -> Object:
        metadata = {"finalizers": finalizers, "resourceVersion": resource_version}
        return self.patch(key, {"metadata": metadata})

    def review_token(self, token: str, audience: str) -> Object:
        """Return the status of a TokenReview. It has the token's user, and whether the token is valid for
        ``audience``."""
        review = {
            "apiVersion": _TOKEN_REVIEWS.api_version,
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        status: Object = self._request("POST", _TOKEN_REVIEWS.path(None), review).get("status", {})
        return status

    def record_event(self, regarding: Object, type: str, reason: str, message: str, count: int = 1) -> None:
        """Record an Event, see :class:`Cluster`. A repeated Event is counted, also after a restart."""
        now = timestamp(self._clock.now())
        event = new_event(regarding, type, reason, message, time=now, instance=self._instance, count=count)
        try:
            self._request("POST", _EVENTS.path(event["metadata"]["namespace"]), event)
        except AlreadyExistsError:
            self._count_event(event)

    def _count_event(self, event: Object) -> None:
        """Add the count of a repeated Event to that of the stored Event. Do nothing if the stored Event
        expires meanwhile."""
        path = _EVENTS.path(event["metadata"]["namespace"], event["metadata"]["name"])
        with suppress(NotFoundError):
            stored = self._request("GET", path)
            repeated = {
                "count": (stored.get("count") or 0) + event["count"],
                "lastTimestamp": event["lastTimestamp"],
                "reportingInstance": event["reportingInstance"],
            }
            self._request("PATCH", path, repeated, content_type=_MERGE_PATCH)

    def list_events(self, namespace: str, uid: str, pages: int = 1) -> list[Object]:
        """List the Events about an object, see :class:`Cluster`.

        Reads at most so many pages. One page has room for more Events than kubelet and scheduler record about
        a pod. If there are more pages, the Events in them are missing, whatever their age: the server sorts
        Events by name."""
        query = {"fieldSelector": f"involvedObject.uid={uid}", "limit": str(PAGE)}
        found: list[Object] = []
        for _ in range(pages):
            answer = self._request("GET", _EVENTS.path(namespace), query=query, max_bytes=PAGE_BYTES)
            found += answer["items"] or ()
            query["continue"] = answer["metadata"].get("continue", "")
            if not query["continue"]:
                break
        return found

    def _list(self, kind: str, namespace: str | None, labels: str) -> Iterator[Object]:
        """List the objects of a kind page by page, as one consistent read.

        Raises ExpiredError if the server no longer has the version of the first page: then list again."""
        resource = _RESOURCES[kind]
        path, accept = resource.path(namespace), _METADATA_LIST if resource.metadata_only else _JSON
        selector = ",".join(filter(None, (resource.labels, labels)))

        def read(query: dict[str, str], most: int | None) -> bytes:
            query = query | {"labelSelector": selector}
            return self._read("GET", path, query=query, accept=accept, max_bytes=most)

        for item in read_pages(read, f"GET {path}"):
            yield _with_kind(kind, item)

    def _request(
        self, method: str, path: str, body: Any = None, *, max_bytes: int | None = None, **options: Any
    ) -> Object:
        """Send a request and return the JSON of the answer. The arguments are those of :meth:`_read`.

        Raises ClusterError or the subclass that matches the answer.
        """
        text = self._read(method, path, body, max_bytes=max_bytes, **options)
        return without_managed_fields(parse_answer(text, f"{method} {path}"))

    def _read(
        self, method: str, path: str, body: Any = None, *, max_bytes: int | None = None, **options: Any
    ) -> bytes:
        """Send a request and return the body of the answer. ``options`` are those of :meth:`_send`.

        Raises AnswerTooLargeError if the body has more than ``max_bytes``, and ClusterError or the subclass
        that matches the answer.
        """
        try:
            response = self._send(method, path, body, **options)
            text: bytes = response.read() if max_bytes is None else read_at_most(max_bytes, response.response)
        except (client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise ClusterError(f"{method} {path}: {error}") from error
        if response.status >= 400:
            raise error_of_answer(response.status, text, f"{method} {path}")
        return text

    def _lines(self, path: str, query: dict[str, str], seconds: float, accept: str) -> Iterator[bytes]:
        """Yield the lines of an answer as they arrive. Raises SilentError if none arrives for ``seconds``,
        and ClusterError."""
        try:
            response = self._send("GET", path, query=query, seconds=seconds, accept=accept)
            if response.status >= 400:
                raise error_of_answer(response.status, response.read(), f"GET {path}")
            with closing(response.response) as lines:
                yield from lines
        except urllib3.exceptions.ReadTimeoutError as error:
            raise SilentError(f"GET {path}: {error}") from error
        except (client.ApiException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise ClusterError(f"GET {path}: {error}") from error

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        seconds: float | None = None,
    ) -> Any:
        """Send a request and return the open response, whatever its status. Raises ApiException and urllib3's
        errors."""
        headers = {
            "Accept": accept,
            "Content-Type": content_type,
            "User-Agent": self._api.user_agent,
        }
        if method in _WRITES:
            query = {**(query or {}), "fieldManager": self._api.user_agent.partition("/")[0]}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._api.configuration.host + path
        if query:
            url += "?" + urlencode({key: value for key, value in query.items() if value})
        code = 0
        try:
            response = self._api.call_api(
                method, url, headers, body, _request_timeout=seconds or self._seconds
            )
            code = response.status
        except client.ApiException as error:
            code = error.status or 0
            raise
        finally:
            self.on_request(method, resource_name(path), code)
        return response


def resource_name(path: str) -> str:
    """Return the resource in the path of a request, such as "jobs"."""
    parts = path.split("/")[3 if path.startswith("/api/") else 4 :]
    return parts[2] if parts[0] == "namespaces" and len(parts) > 2 else parts[0]


def _with_kind(kind: str, obj: Object) -> Object:
    """Return the object with its apiVersion and kind.

    Items of a list lack both fields, and metadata-only lists and watches have the kind
    PartialObjectMetadata."""
    return obj | {"apiVersion": _RESOURCES[kind].api_version, "kind": kind}
