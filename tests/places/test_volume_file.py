"""The pod that reads a file of a job from its volume on a cluster, here the report.

A kubelet runs this pod in ``tests/e2e/test_plugin.py``. Here, its program runs as a process, and a real API
server decides whether the pod is accepted.
"""

import json
import random
import string
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from support import manifests
from support.places import PLAN, Place
from support.waiting import eventually
from tunegate_client.places import volume_file
from tunegate_client.places.client import ClientError
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.names import REQUEST_KEY, request_name

JOB = {"metadata": {"name": "orders"}}
POD = {"metadata": {"name": "orders-read"}}


def log_of_pod(path: Path, most: int = volume_file.MOST_CHARACTERS) -> list[str]:
    """Run the pod's program with a report at this path. Returns the lines of its log."""
    command = [sys.executable, "-I", "-c", volume_file.PROGRAM, str(path), str(most)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_report_is_the_same_after_it_went_through_the_log(tmp_path: Path, size: int) -> None:
    page = "".join(random.choices(string.printable, k=size)).encode() + "★".encode()
    (tmp_path / "report.html").write_bytes(page)
    lines = ["a warning of the image", *log_of_pod(tmp_path / "report.html")]
    assert volume_file.parse(JOB, POD, volume_file.REPORT, lines).encode() == page
    assert max(len(line) for line in lines) < 16 * 1024, "a container runtime splits longer lines"


def test_missing_report_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="FineTuneJob orders has no report on its volume"):
        volume_file.parse(JOB, POD, volume_file.REPORT, log_of_pod(tmp_path / "report.html"))


def test_report_too_large_for_a_log_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(random.randbytes(1000))
    lines = log_of_pod(tmp_path / "report.html", most=100)
    assert len(lines) == 1
    with pytest.raises(ClientError, match="the report of FineTuneJob orders has 1000 bytes, too many"):
        volume_file.parse(JOB, POD, volume_file.REPORT, lines)


@pytest.mark.parametrize("lost", ["first", "last", "one"])
def test_log_with_missing_lines_is_not_taken_for_the_report(tmp_path: Path, lost: str) -> None:
    (tmp_path / "report.html").write_bytes(random.randbytes(50_000))
    lines = log_of_pod(tmp_path / "report.html")
    kept = {"first": lines[1:], "last": lines[:-1], "one": lines[:3] + lines[4:]}[lost]
    with pytest.raises(ClientError, match="pod orders-read did not print the whole report"):
        volume_file.parse(JOB, POD, volume_file.REPORT, kept)


@pytest.mark.parametrize("text", ["+é", "+no base64", "+aaaa"])
def test_log_that_cannot_be_decoded_is_reported(text: str) -> None:
    with pytest.raises(ClientError, match="pod orders-read did not print the whole report"):
        volume_file.parse(JOB, POD, volume_file.REPORT, ["found 0", text])


def test_report_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(b"\xff")
    with pytest.raises(ClientError, match="the report of FineTuneJob orders on its volume is damaged"):
        volume_file.parse(JOB, POD, volume_file.REPORT, log_of_pod(tmp_path / "report.html"))


def test_output_of_a_pod_that_failed_is_quoted() -> None:
    with pytest.raises(ClientError, match="did not print the whole report: python: not found"):
        volume_file.parse(JOB, POD, volume_file.REPORT, ["python: not found"])


def started_job(place: Place, image: str | None = "trainer:recorded") -> Object:
    """Create a job whose data is prepared, so that it may have a report."""
    job = manifests.finetunejob()
    job["spec"]["podTemplate"] = {"nodeSelector": {"pool": "batch"}, "sharedMemory": "1Gi"}
    job = place.create(job)
    name = request_name("orders", job["metadata"]["uid"])
    place.create(manifests.config_map(name, {REQUEST_KEY: json.dumps({"trainerImage": image})}))
    return place.set_status(job, phase="Succeeded", plan=PLAN)


class Time:
    """A clock that only sleeping moves. During each pause, ``on_sleep`` is called with the seconds so far."""

    def __init__(self, on_sleep: Callable[[float], None]) -> None:
        self.now = 0.0
        self.on_sleep = on_sleep

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep(self.now)


def only_pod(place: Place) -> Object:
    (pod,) = place.cluster.list_objects("Pod")
    return pod


def pull(place: Place) -> None:
    """Let a node pull the image of the only pod."""
    containers = [{"name": "trainer", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    pod = place.set_status(only_pod(place), phase="Pending", containerStatuses=containers)
    place.cluster.record_event(pod, "Normal", "Pulling", 'Pulling image "trainer"')


@pytest.fixture
def read(runs: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float], None]], list[str]]:
    """Read the report of a job while ``on_sleep`` changes its pod. Returns the error and the notices."""
    job, lines = started_job(runs), list[str]()
    monkeypatch.setattr(volume_file, "POLL_SECONDS", 20.0)

    def run(on_sleep: Callable[[float], None]) -> list[str]:
        monkeypatch.setattr(volume_file, "time", Time(on_sleep))
        cluster = cast("KubernetesCluster", runs.cluster)  # the pod's log is not read here
        with pytest.raises(ClientError) as refused:
            volume_file.read_file(cluster, job, volume_file.REPORT, lines.append)
        return [str(refused.value), *lines]

    return run


def test_pod_is_not_given_up_while_its_image_is_pulled(
    runs: Place, read: Callable[[Callable[[float], None]], list[str]]
) -> None:
    def on_sleep(seconds: float) -> None:
        if seconds == 20:
            pull(runs)
        if seconds == 1000:
            runs.set_status(only_pod(runs), phase="Failed", reason="Evicted", message="no disk")

    error, noticed = read(on_sleep)
    assert error.endswith("ended before it started: Evicted: no disk")
    assert noticed.endswith('Pulling: Pulling image "trainer"')
    assert list(runs.cluster.list_objects("Pod")) == []


def test_endless_image_pull_is_given_up_before_pod_ends(
    runs: Place, read: Callable[[Callable[[float], None]], list[str]]
) -> None:
    error, _ = read(lambda seconds: pull(runs) if seconds == 20 else None)
    assert "has not read the report after 1220 s: Pulling: " in error
    assert volume_file.POD_SECONDS > 1220


def test_pod_not_started_after_the_pull_is_given_up(
    runs: Place, read: Callable[[Callable[[float], None]], list[str]]
) -> None:
    def on_sleep(seconds: float) -> None:
        if seconds == 20:
            pull(runs)
        if seconds == 400:
            runs.cluster.record_event(only_pod(runs), "Normal", "Pulled", "pulled it")

    assert "has not read the report after 580 s: Pulled: pulled it" in read(on_sleep)[0]


def test_pod_whose_creation_is_interrupted_is_deleted(runs: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    job, create = started_job(runs), type(runs.cluster).create

    def interrupted(cluster: Any, obj: Object) -> Object:
        create(cluster, obj)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(runs.cluster), "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        volume_file.read_file(cast("KubernetesCluster", runs.cluster), job, volume_file.REPORT, print)
    assert list(runs.cluster.list_objects("Pod")) == []


@pytest.mark.cluster
def test_pod_passes_policies_and_is_deleted_after_the_deadline(
    kubernetes: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_file, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr(volume_file, "NOTICE_SECONDS", 0.2)
    job, seen = started_job(kubernetes), list[Object]()
    delete = type(kubernetes.cluster).delete

    def record(cluster: object, key: Key, uid: str) -> None:
        seen.append(kubernetes.cluster.get(key) or {})
        delete(cluster, key, uid)

    monkeypatch.setattr(type(kubernetes.cluster), "delete", record)
    with pytest.raises(ClientError, match=r"pod orders-read-.* has not read the report after 1 s: Pending"):
        kubernetes.client.read_report(job)
    (pod,) = seen
    assert kubernetes.cluster.get(Key.of(pod)) is None
    assert pod["spec"]["containers"][0]["image"] == "trainer:recorded"
    assert pod["spec"]["nodeSelector"] == {"pool": "batch"}, "it is scheduled as the job's pods"
    assert pod["spec"]["activeDeadlineSeconds"] == volume_file.POD_SECONDS
    assert pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]


@pytest.mark.cluster
def test_pod_that_the_cluster_ends_before_it_starts_is_reported(kubernetes: Place) -> None:
    job, errors = started_job(kubernetes), list[str]()

    def read() -> None:
        with pytest.raises(ClientError) as refused:
            kubernetes.client.read_report(job)
        errors.append(str(refused.value))

    reader = threading.Thread(target=read)
    reader.start()
    name = eventually(lambda: reader_pods(kubernetes), what="the pod is created")[0]
    pod = {"kind": "Pod", "metadata": {"name": name, "namespace": kubernetes.namespace}}
    kubernetes.set_status(pod, phase="Failed", reason="DeadlineExceeded", message="it was active too long")
    reader.join(10)
    assert errors == [f"pod {name} ended before it started: DeadlineExceeded: it was active too long"]
    assert reader_pods(kubernetes) == []


def reader_pods(place: Place) -> list[str]:
    """Return the names of the pods that read reports."""
    assert isinstance(place.cluster, KubernetesCluster)
    path = f"/api/v1/namespaces/{place.namespace}/pods"
    items = place.cluster._request("GET", path)["items"]
    return [pod["metadata"]["name"] for pod in items if "-read-" in pod["metadata"]["name"]]
