"""Which pod's log a user sees, and how logs are followed from pod to pod."""

from threading import Timer
from typing import Any

import pytest

from support import manifests
from support.places import Place
from tunegate_api.contract.process import Role
from tunegate_client.laptop.kubelet import log_file
from tunegate_client.laptop.status import cluster_folder
from tunegate_client.places import logs
from tunegate_client.places.client import ClientError
from tunegate_client.places.logs import LogSelection, follow_logs, newest_log
from tunegate_client.places.runs import RunsClient
from tunegate_operator.children.job import INDEX_LABEL
from tunegate_operator.engine.cluster import Object


def end(runs: Place, pod: Object, text: str) -> None:
    """Let a pod end after it wrote a log."""
    assert isinstance(runs.client, RunsClient)
    path = log_file(cluster_folder(runs.client.runs), pod["metadata"]["name"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    containers = [{"name": "trainer", "state": {"terminated": {"exitCode": 0}}}]
    runs.set_status(pod, phase="Succeeded", containerStatuses=containers)


def job_with_pods(runs: Place, *steps: tuple[Any, ...]) -> Object:
    """Create a job whose pods of these steps have ended. The log of each has the names of its step."""
    job = runs.create(manifests.finetunejob())
    for step in steps:
        end(runs, runs.create_pod(job, *step), " ".join(str(part) for part in step) + "\n")
    return job


@pytest.mark.parametrize(
    ("selection", "line"),
    [
        (LogSelection(), "publish"),
        (LogSelection(role=Role.TRAIN), "train dpo 2"),
        (LogSelection(stage="sft"), "train sft 1"),
        (LogSelection(role=Role.TRACK), "track"),
    ],
    ids=["any", "role", "stage", "chore"],
)
def test_log_of_the_newest_selected_pod_is_shown(runs: Place, selection: LogSelection, line: str) -> None:
    job_with_pods(
        runs,
        ("data",),
        ("train", "sft", 1),
        ("train", "dpo", 1),
        ("train", "dpo", 2),
        ("publish",),
        ("track",),
    )
    assert list(newest_log(runs.client, "orders", selection)) == [line]


def test_pod_with_rank_0_is_shown_unless_another_is_selected() -> None:
    pods = [{"metadata": {"labels": {"tunegate.dev/role": "train", INDEX_LABEL: str(i)}}} for i in range(3)]
    assert [LogSelection().includes(pod) for pod in pods] == [True, False, False]
    assert [LogSelection(pod=2).includes(pod) for pod in pods] == [False, False, True]


def test_job_without_a_matching_pod_is_reported_with_its_phase(runs: Place) -> None:
    job = job_with_pods(runs, ("data",))
    runs.set_status(job, phase="Queued", message="waiting for a GPU")
    with pytest.raises(ClientError, match="no pod with a log of role gate; its phase is Queued: waiting for"):
        newest_log(runs.client, "orders", LogSelection(role=Role.GATE))


def test_logs_of_next_pods_follow_until_the_job_ends(runs: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(RunsClient, "interrupted", lambda *_: set())  # as if a process ran the job
    job, notices = job_with_pods(runs, ("data",), ("train", "sft", 1)), list[str]()
    runs.set_status(job, phase="Training", message="restarting")

    def end_the_job() -> None:
        end(runs, runs.create_pod(job, "train", "sft", 2), "two\nlines\n")
        runs.set_status(job, phase="Succeeded", message="published")

    lines = follow_logs(runs.client, "orders", LogSelection(), notices.append)
    assert next(lines) == "train sft 1", "the logs of earlier pods are not repeated"
    Timer(0.1, end_the_job).start()
    assert list(lines) == ["two", "lines"]
    assert "waiting for a pod: Training: restarting" in notices
    assert notices[-1] == "orders  Succeeded: published"


def test_logs_of_a_resumed_job_follow_before_the_operator_acts(
    runs: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(RunsClient, "interrupted", lambda *_: set())  # as if a process ran the job
    job, notices = job_with_pods(runs, ("data",)), list[str]()
    runs.set_status(job, phase="Suspended", message="suspended by spec.suspend")  # which is false again
    Timer(0.1, lambda: runs.set_status(job, phase="Succeeded", message="published")).start()
    assert list(follow_logs(runs.client, "orders", LogSelection(), notices.append)) == ["data"]
    assert notices[-1] == "orders  Succeeded: published"


def test_following_ends_if_no_process_runs_the_job(runs: Place) -> None:
    runs.set_status(job_with_pods(runs, ("data",)), phase="Training")
    notices = list[str]()
    assert list(follow_logs(runs.client, "orders", LogSelection(), notices.append)) == ["data"]
    assert notices[-1] == "orders is interrupted: no process runs it"
