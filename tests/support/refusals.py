"""Find out what a real API server refuses."""

import json
from collections.abc import Callable
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException

Object = dict[str, Any]


class DryRunClient:
    """Sends manifests to an API server as `kubectl apply` does: unknown fields are errors."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    def create(self, manifest: Object, *, unknown: str = "Strict") -> list[str]:
        """Return why the API server refuses the manifest; empty if it accepts the manifest. Nothing is
        stored.

        Messages with a description come before messages about a pattern."""
        return self._send("POST", _path(manifest), manifest, unknown)

    def replace(self, before: Object, after: Object) -> list[str]:
        """Return why the API server refuses to change an object from ``before`` to ``after``."""
        path = _path(before)
        made = self._call("POST", path, before)
        assert made["kind"] == before["kind"], made
        path = f"{path}/{made['metadata']['name']}"
        version = {"resourceVersion": made["metadata"]["resourceVersion"]}
        try:
            return self._send("PUT", path, after | {"metadata": after["metadata"] | version}, "Strict")
        finally:
            self._call("DELETE", path, None)

    def _send(self, method: str, path: str, manifest: Object, unknown: str) -> list[str]:
        answer = self._call(method, f"{path}?dryRun=All&fieldValidation={unknown}", manifest)
        if answer["kind"] == manifest["kind"]:
            return []
        causes = answer.get("details", {}).get("causes", [])
        lines = {f"{c['field']}: {c['message']}" for c in causes} or {answer["message"]}
        return sorted(lines, key=lambda line: ("should match" in line, line))

    def _call(self, method: str, path: str, body: Object | None) -> Object:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._api.configuration.host + path
        answer: Object = json.loads(self._api.call_api(method, url, headers, body).read())
        return answer


def _path(manifest: Object) -> str:
    return f"/apis/{manifest['apiVersion']}/namespaces/default/{manifest['kind'].lower()}s"


def refusal(act: Callable[[], Any]) -> str:
    """Return the API server's message if it forbids the call. Empty if the call is allowed."""
    try:
        act()
    except ApiException as error:
        if error.status != 403:
            raise
        return str(json.loads(error.body)["message"])
    return ""
