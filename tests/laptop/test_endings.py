"""If the operator or a person ends a run, no process is left, and the report shows the reason."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from support.command import Command


@pytest.fixture(scope="module")
def overdue(
    tmp_path_factory: pytest.TempPathFactory, stand_in: dict[str, str]
) -> Iterator[tuple[Command, CompletedProcess[str]]]:
    """A job whose training exceeded its deadline, and the command's output."""
    command = Command(tmp_path_factory.mktemp("overdue"), stand_in | {"STAND_IN": "trains"})
    command.write(Path("/nowhere"), activeDeadlineSeconds=8)
    yield command, command("run", "manifests")
    command.kill()


@pytest.mark.slow
def test_command_waits_for_the_trainer_to_save_after_the_deadline(overdue):
    command, result = overdue
    assert result.returncode == 1, result.stdout
    assert command.status()["failure"]["reason"] == "DeadlineExceeded"
    assert command.pods() == []
    assert "saved" in command.logs()


@pytest.mark.slow
def test_report_shows_a_failure_that_the_trainer_could_not_report(overdue):
    page = (overdue[0].runs / "orders" / "report.html").read_text()
    assert "<strong>Failed</strong> DeadlineExceeded: " in page
    assert "<title>Failed - orders</title>" in page
    assert "report of train" in page


def test_report_of_a_discarded_run_shows_the_escaped_reason(quick):
    quick.write(Path("/nowhere"))
    quick.environment["STAND_IN"] = "stops"
    quick("run", "manifests")
    report = quick.runs / "orders" / "report.html"
    assert "<strong>" not in report.read_text()
    quick("discard", "orders", "--reason", "<b>worse</b>")
    shown = quick("status", "orders").stdout
    assert "Nothing is published" in shown
    assert "tunegate continue" not in shown
    again = quick("continue", "orders", "--reason", "after all")
    assert again.returncode == 1
    assert "job orders is not stopped by a gate: there is nothing to decide" in again.stdout
    assert "&lt;b&gt;worse&lt;/b&gt;" in report.read_text()
    assert "<strong>Failed</strong>" in report.read_text()


def test_run_of_a_suspended_job_exits_with_4(quick):
    quick.write(Path("/nowhere"), suspend=True)
    result = quick("run", "manifests")
    assert result.returncode == 4, result.stdout
    assert quick.status()["phase"] == "Suspended"


def test_exit_code_is_1_with_failed_and_suspended_jobs(quick):
    quick.write(Path("/nowhere"), activeDeadlineSeconds=5)
    quick.environment["STAND_IN"] = "trains"

    def add_a_suspended_one(objects):
        objects["second"] = deepcopy(objects["orders"])
        objects["second"]["metadata"]["name"] = "second"
        objects["second"]["spec"]["suspend"] = True

    quick.edit(add_a_suspended_one)
    result = quick("run", "manifests")
    assert quick.status("second")["phase"] == "Suspended"
    assert quick.status()["phase"] == "Failed"
    assert result.returncode == 1, result.stdout


def test_decision_on_an_unknown_job_suggests_the_namespace_option(quick):
    for command in ("continue", "discard"):
        result = quick(command, "orders", "--reason", "good enough")
        assert result.returncode == 1
        assert "its FineTuneJobs: none; for a job on a cluster, add --namespace" in result.stdout
    assert not quick.runs.exists()


def test_report_of_a_passed_run_copies_the_trainers_report(quick):
    quick.write(Path("/nowhere"))
    assert quick("run", "manifests").returncode == 0
    (page,) = (quick.runs / "volumes" / "tuning").glob("tunegate/jobs/*/report.html")
    assert (quick.runs / "orders" / "report.html").read_text() == page.read_text()
