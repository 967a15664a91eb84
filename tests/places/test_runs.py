"""Reading a runs folder while another process works in it."""

import re
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest

from support import manifests
from support.places import Place
from tunegate_client.laptop.cluster import LocalCluster, objects_folder
from tunegate_client.laptop.kubelet import log_file
from tunegate_client.laptop.status import (
    cluster_folder,
    record_running_jobs,
    report_file,
    status_file,
)
from tunegate_client.places.client import ClientError
from tunegate_client.places.runs import RunsClient
from tunegate_operator.engine.cluster import Object


def client_of(runs: Place) -> RunsClient:
    assert isinstance(runs.client, RunsClient)
    return runs.client


def pod_with_log(runs: Place, text: str) -> tuple[Object, Path]:
    """Create a running pod. Returns it, and the path of its log."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "train-1"}, "spec": {}}
    pod = runs.set_status(runs.create(pod), phase="Running")
    path = log_file(cluster_folder(client_of(runs).runs), "train-1")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return pod, path


def test_folder_that_does_not_exist_has_no_jobs(tmp_path: Path) -> None:
    client = RunsClient(tmp_path / "none")
    assert client.list_objects("FineTuneJob") == client.list_objects("EvalGate") == []
    assert not (tmp_path / "none").exists()


def test_unreadable_status_of_a_job_does_not_hide_another_job(runs: Place) -> None:
    for name in ("a", "b"):
        runs.create(manifests.changed(manifests.finetunejob(), {"metadata.name": name}))
    client = client_of(runs)
    status_file(client.runs, "a").write_text("")
    assert client.get("FineTuneJob", "b")["metadata"]["name"] == "b"
    with pytest.raises(ClientError, match="it is not a FineTuneJob"):
        client.get("FineTuneJob", "a")


def test_unfinished_files_of_a_writer_are_neither_read_nor_removed(runs: Place) -> None:
    runs.create(manifests.evalgate())
    folder = objects_folder(cluster_folder(client_of(runs).runs)) / "EvalGate" / "default"
    unfinished = folder / ".orders-golden.yaml"
    unfinished.write_text("{")
    assert len(runs.client.list_objects("EvalGate")) == 1
    assert unfinished.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"",
        b"[]",
        b"metadata: {name: orders}",
        b"metadata: {name: a, uid: b}\nspec: {}\nstatus: c",
    ],
    ids=["not YAML", "not UTF-8", "empty", "a list", "without uid", "status without fields"],
)
def test_status_file_without_a_job_is_reported_with_path(runs: Place, content: bytes) -> None:
    path = status_file(client_of(runs).runs, "orders")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ClientError, match=re.escape(f"{path} cannot be read: ")):
        runs.client.list_objects("FineTuneJob")


def test_log_is_read_with_its_unfinished_last_line(runs: Place) -> None:
    pod, path = pod_with_log(runs, "one\n10 %\r20 %\nthree")
    assert list(runs.client.read_log(pod)) == ["one", "10 %\r20 %", "three"]
    path.unlink()
    with pytest.raises(ClientError, match="there is no log of pod train-1"):
        list(runs.client.read_log(pod))


def test_followed_log_continues_until_the_pod_has_ended(runs: Place) -> None:
    pod, path = pod_with_log(runs, "one\nt")

    def write_the_rest() -> None:
        path.write_text("one\ntwo\nthree\n")
        runs.set_status(pod, phase="Succeeded")

    with LocalCluster(cluster_folder(client_of(runs).runs), lambda _: path):  # which locks the folder
        lines = runs.client.read_log(pod, follow=True)
        assert next(lines) == "one"
        Timer(0.1, write_the_rest).start()
        assert list(lines) == ["two", "three"]


def test_followed_log_ends_if_no_process_runs_the_folder(runs: Place) -> None:
    pod, _ = pod_with_log(runs, "one\n")
    assert list(runs.client.read_log(pod, follow=True)) == ["one"]


def test_report_html_is_read_from_the_folder_of_the_job(runs: Place) -> None:
    job = runs.create(manifests.finetunejob())
    report_file(client_of(runs).runs, "orders").write_bytes(b"<html>")
    assert runs.client.read_report(job) == b"<html>"


def test_job_without_a_running_process_is_interrupted_until_ended(runs: Place) -> None:
    job = runs.set_status(runs.create(manifests.finetunejob()), phase="Training")
    assert runs.client.interrupted([job]) == {"orders"}
    job = runs.set_status(job, phase="Succeeded")
    assert runs.client.interrupted([job]) == set()


def test_job_that_ended_since_the_read_is_not_interrupted(runs: Place) -> None:
    job = runs.set_status(runs.create(manifests.finetunejob()), phase="Training")
    runs.set_status(job, phase="Succeeded")
    assert runs.client.interrupted([job]) == set()


def test_unreadable_status_does_not_hide_interrupted_jobs(runs: Place) -> None:
    runs.set_status(runs.create(manifests.finetunejob(), "newer"), phase="Dreaming")
    runs.set_status(runs.create(manifests.finetunejob()), phase="Training")
    assert runs.client.interrupted(runs.client.list_objects("FineTuneJob")) == {"orders"}


def test_watch_shows_that_the_jobs_process_has_ended(runs: Place) -> None:
    runs.set_status(runs.create(manifests.finetunejob()), phase="Training")
    root = cluster_folder(client_of(runs).runs)
    with closing(runs.client.watch("FineTuneJob", "orders")) as states:
        with LocalCluster(root, lambda claim: root / claim):
            record_running_jobs(client_of(runs).runs, ["orders"])
            assert runs.client.interrupted([next(states)]) == set()
        assert runs.client.interrupted([next(states)]) == {"orders"}


@pytest.fixture
def job(runs: Place) -> Object:
    return runs.create(manifests.finetunejob(), "invoice-extractor")


def test_job_is_parsed_again_only_after_its_file_has_changed(runs: Place, job: Object) -> None:
    (before,) = runs.client.list_objects("FineTuneJob")
    assert runs.client.list_objects("FineTuneJob")[0] is before
    runs.set_status(job, observedGeneration=2)
    (after,) = runs.client.list_objects("FineTuneJob")
    assert after["status"]["observedGeneration"] == 2
