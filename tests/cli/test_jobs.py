"""The commands that read jobs give the same answers for a runs folder and for a cluster."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from support import manifests
from support.job_statuses import not_ready
from support.places import STOP, CommandAt
from tunegate_client.cli import jobs
from tunegate_client.laptop.status import report_file
from tunegate_operator.engine.cluster import Object
from tunegate_operator.names import CONTINUE_ANNOTATION


@pytest.fixture(params=["on_laptop", pytest.param("on_cluster", marks=pytest.mark.cluster)])
def tunegate(request: pytest.FixtureRequest) -> CommandAt:
    command: CommandAt = request.getfixturevalue(request.param)
    return command


def job_in(tunegate: CommandAt, phase: str, message: str = "", **status: object) -> Object:
    """Create the job ``orders`` with a status. It is suspended by its spec if this is its phase."""
    job = manifests.finetunejob()
    job["spec"]["suspend"] = phase == "Suspended"
    job = tunegate.place.create(job)
    return tunegate.place.set_status(job, phase=phase, message=message, **status)


def test_status_lists_jobs_with_the_columns_of_kubectl_get(tunegate: CommandAt) -> None:
    assert tunegate("status").output.startswith("no ")
    job_in(tunegate, "Succeeded", display={"stage": "sft", "golden": "0.92"})
    result = tunegate("status")
    assert result.exit_code == 0, result.output
    heading, line = result.output.splitlines()
    assert heading.split()[:4] == ["NAME", "PHASE", "STAGE", "PROGRESS"]
    assert line.split()[:3] == ["orders", "Succeeded", "sft"]
    assert line[heading.index("GOLDEN") :].startswith("0.92")


def test_unreadable_status_does_not_hide_other_jobs(on_laptop: CommandAt) -> None:
    newer = on_laptop.place.create(manifests.finetunejob(), "newer")
    on_laptop.place.set_status(newer, phase="Dreaming")
    job_in(on_laptop, "Succeeded")
    result = on_laptop("status")
    assert result.exit_code == 0, result.output
    _, first, second, *notes = result.output.splitlines()
    assert first.split() == ["newer", "Unreadable"]
    assert second.split()[:2] == ["orders", "Succeeded"]
    note = " ".join(notes)
    assert note.startswith("FineTuneJob newer: its status cannot be read; ")
    assert note.endswith("use the version of Tunegate that wrote it")
    one = on_laptop("status", "newer", "-w")
    assert one.exit_code == 1
    assert "FineTuneJob newer: its status cannot be read; " in one.output


def test_watched_jobs_show_an_unreadable_status_once(
    on_laptop: CommandAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = on_laptop.place.create(manifests.finetunejob(), "newer")
    on_laptop.place.set_status(newer, phase="Dreaming")
    job_in(on_laptop, "Succeeded", "published")
    pauses = iter([None])

    def end_after_two_looks(_: float) -> None:
        if next(pauses, "last") == "last":
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs.time, "sleep", end_after_two_looks)
    lines = on_laptop("status", "-w").output.splitlines()
    assert lines[0] == "orders  Succeeded: published"
    assert len(lines) == 2
    assert lines[1].startswith("FineTuneJob newer: its status cannot be read; ")


def test_status_of_one_job_shows_its_details(tunegate: CommandAt) -> None:
    job_in(tunegate, "Succeeded", "the model is published")
    assert "Succeeded  the model is published" in tunegate("status", "orders").output


def test_unknown_job_is_refused_with_the_names_that_exist(tunegate: CommandAt) -> None:
    job_in(tunegate, "Succeeded")
    for command in (("status", "oders"), ("logs", "oders"), ("events", "oders"), ("report", "oders")):
        result = tunegate(*command)
        assert result.exit_code == 1
        assert "there is no FineTuneJob oders in " in result.output
        assert "its FineTuneJobs: orders" in result.output


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        ("Succeeded", 0),
        ("Failed", 1),
        ("Stopped", 3),
        ("Suspended", 4),
        ("AwaitingReview", 4),
        ("AwaitingApproval", 4),
    ],
)
def test_watched_job_at_rest_gives_the_exit_code_of_run(tunegate: CommandAt, phase: str, code: int) -> None:
    job_in(tunegate, phase, "it ended")
    result = tunegate("status", "orders", "--watch")
    assert result.exit_code == code, result.output
    assert f"orders  {phase}: it ended" in result.output


def start_watch(tunegate: CommandAt, results: list[Any]) -> threading.Thread:
    """Run ``tunegate status orders -w`` in a thread, which appends the result when the command has ended."""
    watcher = threading.Thread(target=lambda: results.append(tunegate("status", "orders", "-w")))
    watcher.start()
    return watcher


def test_watched_job_is_shown_until_it_is_at_rest(
    tunegate: CommandAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tunegate.place.client), "interrupted", lambda *_: set())
    job, results = job_in(tunegate, "Queued", "waits"), []
    watcher = start_watch(tunegate, results)
    for phase in ("Training", "Gating", "Succeeded"):
        watcher.join(0.6)  # longer than the pause between two looks at a file
        tunegate.place.set_status(job, phase=phase, message="goes on")
    watcher.join(20)
    assert not watcher.is_alive()
    lines = [line for line in results[0].output.splitlines() if line.startswith("orders")]
    assert [line.split()[1] for line in lines] == ["Queued:", "Training:", "Gating:", "Succeeded:"]


@pytest.mark.parametrize("phase", ["Suspended", "Stopped"])
def test_watched_job_is_shown_until_the_decision_is_carried_out(
    tunegate: CommandAt, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setattr(type(tunegate.place.client), "interrupted", lambda *_: set())
    decision = json.dumps({"stop": STOP["id"], "reason": "looks fine"})
    job = manifests.finetunejob()
    job["metadata"]["annotations"] = {CONTINUE_ANNOTATION: decision}
    job, results = tunegate.place.create(job), []
    tunegate.place.set_status(job, phase=phase, message="waits", stop=STOP)
    watcher = start_watch(tunegate, results)
    watcher.join(0.6)
    tunegate.place.set_status(job, phase="Succeeded", message="published")
    watcher.join(20)
    assert results[0].exit_code == 0, results[0].output
    assert f"orders  {phase}: waits\norders  Succeeded: published" in results[0].output


def test_watched_job_that_is_deleted_is_reported(
    tunegate: CommandAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tunegate.place.client), "interrupted", lambda *_: set())
    job, results = job_in(tunegate, "Queued", "waits"), []
    watcher = start_watch(tunegate, results)
    watcher.join(0.6)
    tunegate.place.delete(job)
    watcher.join(20)
    assert results[0].exit_code == 1
    assert "FineTuneJob orders in " in results[0].output
    assert "was deleted" in results[0].output


def test_stopped_job_shows_the_commands_for_this_place(tunegate: CommandAt) -> None:
    job_in(tunegate, "Stopped", stop=STOP)
    program = "tunegate" if tunegate.place.namespace == "default" else "kubectl tunegate"
    text = tunegate("status", "orders").output
    assert f'{program} continue orders --reason "…" --' in text
    for option in tunegate.place.options:
        assert option in text


def test_events_of_a_job_and_its_pods_are_listed(tunegate: CommandAt) -> None:
    job = job_in(tunegate, "Queued")
    assert "no Events of FineTuneJob orders" in tunegate("events", "orders").output
    tunegate.place.cluster.record_event(job, "Normal", "Queued", "waits for\na GPU")
    pod = tunegate.place.create_pod(job)
    tunegate.place.cluster.record_event(pod, "Warning", "FailedMount", "no volume")
    heading, first, second = tunegate("events", "orders").output.splitlines()
    assert heading.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"]
    assert first.split()[3:7] == ["Normal", "Queued", "FineTuneJob/orders", "1"]
    assert first.endswith("   waits for a GPU")
    assert second.split()[3:5] == ["Warning", "FailedMount"]
    assert f"Pod/{pod['metadata']['name']}" in second


def test_job_without_pods_has_no_log(tunegate: CommandAt) -> None:
    job_in(tunegate, "Failed", "the data is bad")
    result = tunegate("logs", "orders")
    assert result.exit_code == 1
    assert "has no pod with a log; its phase is Failed: the data is bad" in result.output


def test_following_logs_of_an_ended_job_ends(tunegate: CommandAt) -> None:
    job_in(tunegate, "Succeeded", "published")
    result = tunegate("logs", "orders", "--follow")
    assert (result.exit_code, result.output) == (0, "orders  Succeeded: published\n")


def test_laptop_report_is_printed_as_a_path_or_copied(on_laptop: CommandAt) -> None:
    job_in(on_laptop, "Succeeded")
    page = report_file(Path(on_laptop.place.options[1]), "orders")
    assert "FineTuneJob orders has no report yet" in on_laptop("report", "orders").output
    page.write_text("<html>")
    assert on_laptop("report", "orders").output == f"report    {page}\n"
    assert list(Path().iterdir()) == []
    assert on_laptop("report", "orders", "-o", "copy.html").output == "report    copy.html\n"
    assert Path("copy.html").read_text() == "<html>"
    assert on_laptop("report", "orders", "-o", "-").output == "<html>"
    assert "cannot be written" in on_laptop("report", "orders", "-o", "none/copy.html").output


@pytest.mark.cluster
def test_report_of_a_pending_job_starts_no_pod(on_cluster: CommandAt) -> None:
    job = job_in(on_cluster, "Pending")
    result = on_cluster("report", "orders")
    assert result.exit_code == 1
    assert "FineTuneJob orders has no report yet: it is in phase Pending" in result.output
    assert on_cluster.place.client.list_pods(job) == []
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", [("status", "orders", "--watch"), ("logs", "orders", "--follow")])
def test_commands_that_follow_a_job_end_if_it_is_held(
    tunegate: CommandAt, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(type(tunegate.place.client), "interrupted", lambda *_: set())
    job_in(tunegate, "Training", "held: spec.mixing", conditions=not_ready("SpecNotUnderstood"))
    results: list[Result] = []
    follower = threading.Thread(target=lambda: results.append(tunegate(*command)), daemon=True)
    follower.start()
    follower.join(20)
    assert results, "the command has not ended"
    assert "held: spec.mixing" in results[0].output
