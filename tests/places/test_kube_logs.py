"""Following a pod's log on a cluster while connections break.

A small HTTP server answers like an API server, because the tests' API server has no kubelet. Logs of real
pods are read in ``tests/e2e/test_plugin.py``.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client

from tunegate_client.places import kube as kube_module
from tunegate_client.places import retry
from tunegate_client.places.client import ClientError
from tunegate_client.places.kube import KubernetesClient
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.kubernetes import KubernetesCluster

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "train-1", "namespace": "team", "uid": "1"},
    "status": {"phase": "Running"},
}
LINES = [f"2026-01-01T00:00:0{i}.000000000Z line {i}\n" for i in range(5)]
TIME = LINES[1].split()[0]


@dataclass
class FakePod:
    """A pod whose log is sent in parts: each request for the log gets the next one. If none is left, the pod
    has ended, and the log is sent from the requested time on."""

    parts: list[str]
    lines: list[str] = field(default_factory=lambda: LINES)
    """The whole log."""
    failures: list[int] = field(default_factory=list)
    """The status codes of the answers to the next requests for the log, before the next part; 0 is a part
    without a line."""
    requests: list[dict[str, str]] = field(default_factory=list)
    is_deleted: bool = False
    log_status: int = 200

    def answer(self, url: str) -> tuple[int, str]:
        """Return the status code and the body for a request."""
        path, query = urlsplit(url).path, {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
        if self.is_deleted:
            return 404, json.dumps({"message": "pods not found", "code": 404})
        if not path.endswith("/log"):
            return 200, json.dumps(POD | {"status": {"phase": "Running" if self.parts else "Succeeded"}})
        self.requests.append(query)
        if self.log_status != 200:
            return self.log_status, json.dumps({"message": "no log", "code": self.log_status})
        if self.failures:
            code = self.failures.pop(0)
            return code or 200, json.dumps({"message": "no log", "code": code}) if code else ""
        if self.parts:
            return 200, self.parts.pop(0)
        since = query.get("sinceTime", "")[:19]  # a server resumes at a whole second
        return 200, "".join(line for line in self.lines if line >= since)


@pytest.fixture
def pod() -> FakePod:
    return FakePod([])


@pytest.fixture
def kube(pod: FakePod, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesClient]:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(retry, "GIVE_UP_SECONDS", 0.3)
    monkeypatch.setattr(kube_module, "RECONNECT_SECONDS", 0.01)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = pod.answer(self.path)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_port}"
    configuration.retries = False
    with client.ApiClient(configuration) as api:
        yield KubernetesClient(KubernetesCluster(api, SystemClock()), "team", "test")
    server.shutdown()
    server.server_close()


def test_interrupted_log_is_resumed_without_repeated_lines(kube: KubernetesClient, pod: FakePod) -> None:
    pod.parts = ["".join(LINES[:2]), LINES[1] + LINES[2] + LINES[3][:-4]]
    assert list(kube.read_log(POD, follow=True)) == [f"line {i}" for i in range(5)]
    assert [request.get("sinceTime", "")[:19] for request in pod.requests] == [
        "",
        "2026-01-01T00:00:01",
        "2026-01-01T00:00:02",
    ]
    assert [request.get("follow") for request in pod.requests] == ["true", "true", None]


def test_lines_with_the_same_time_are_all_printed(kube: KubernetesClient, pod: FakePod) -> None:
    pod.lines = [f"{TIME} {word}\n" for word in ("one", "one", "two")]
    assert list(kube.read_log(POD)) == ["one", "one", "two"]


def test_lines_with_equal_times_are_not_repeated_after_reconnect(
    kube: KubernetesClient, pod: FakePod
) -> None:
    pod.lines = [LINES[0], *(f"{TIME} {word}\n" for word in ("one", "one", "two", "one")), LINES[2]]
    pod.parts = ["".join(pod.lines[:3]), "".join(pod.lines[1:4])]
    assert list(kube.read_log(POD, follow=True)) == ["line 0", "one", "one", "two", "one", "line 2"]


def test_line_with_an_earlier_time_than_its_predecessor_is_printed(
    kube: KubernetesClient, pod: FakePod
) -> None:
    pod.lines = [LINES[1], LINES[0]]  # the node's clock was set back
    assert list(kube.read_log(POD)) == ["line 1", "line 0"]


def test_line_without_a_time_is_printed_and_not_requested(kube: KubernetesClient, pod: FakePod) -> None:
    errors = ["unable to retrieve container logs\n", "2026-13-01T00:00:00Z is no date\n"]
    pod.parts = [LINES[0] + "".join(errors)]
    printed = list(kube.read_log(POD, follow=True))
    assert printed == ["line 0", *(line.rstrip() for line in errors), *(f"line {i}" for i in range(1, 5))]
    assert pod.requests[1]["sinceTime"] == LINES[0].split()[0]


def test_times_in_different_time_zones_are_compared(kube: KubernetesClient, pod: FakePod) -> None:
    summer, winter = "2026-10-25T02:59:59.9+02:00 summer\n", "2026-10-25T02:00:00+01:00 winter\n"
    pod.lines, pod.parts = [summer, winter], [summer + winter]
    assert list(kube.read_log(POD, follow=True)) == ["summer", "winter"]


def test_quiet_log_is_followed_across_rare_failures(kube: KubernetesClient, pod: FakePod) -> None:
    pod.parts, pod.failures = [LINES[0]], [502, 0] * 40
    assert list(kube.read_log(POD, follow=True)) == [f"line {i}" for i in range(5)]


def test_log_of_an_ended_pod_is_read_once(kube: KubernetesClient, pod: FakePod) -> None:
    assert len(list(kube.read_log(POD))) == len(LINES)
    assert pod.requests == [{"container": "trainer", "timestamps": "true"}]


def test_followed_log_of_a_deleted_pod_ends(kube: KubernetesClient, pod: FakePod) -> None:
    pod.parts = [LINES[0], LINES[1]]
    lines = kube.read_log(POD, follow=True)
    assert next(lines) == "line 0"
    pod.is_deleted = True
    assert list(lines) == []


def test_unavailable_log_is_retried_and_then_reported(kube: KubernetesClient, pod: FakePod) -> None:
    pod.parts, pod.log_status = [LINES[0]], 502
    with pytest.raises(ClientError, match="the log of pod train-1 cannot be read: no log"):
        list(kube.read_log(POD, follow=True))
    assert len(pod.requests) > 1


@pytest.mark.parametrize("code", [401, 403])
def test_log_that_is_refused_is_not_retried(kube: KubernetesClient, pod: FakePod, code: int) -> None:
    pod.parts, pod.log_status = [LINES[0]], code
    with pytest.raises(ClientError, match=r"no log \(namespace team of context test\)"):
        list(kube.read_log(POD, follow=True))
    assert len(pod.requests) == 1
