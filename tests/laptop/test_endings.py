"""What is left of a run that the operator or a person ended: no process, and a report that says so."""

from pathlib import Path


def test_the_command_waits_for_a_trainer_that_the_operator_ended(quick):
    quick.write(Path("/nowhere"), activeDeadlineSeconds=8)
    quick.environment["STAND_IN"] = "trains"
    result = quick("run", "manifests")
    assert result.returncode == 1, result.stdout
    assert quick.status()["failure"]["reason"] == "DeadlineExceeded"
    assert quick.pods() == []
    assert "saved" in quick.logs()


def test_the_report_says_how_it_ended_when_the_trainer_could_not_know(quick):
    quick.write(Path("/nowhere"), activeDeadlineSeconds=8)
    quick.environment["STAND_IN"] = "trains"
    quick("run", "manifests")
    page = (quick.runs / "orders" / "report.html").read_text()
    assert "<strong>Failed</strong> DeadlineExceeded: " in page
    assert "<title>Failed - orders</title>" in page
    assert "train says so" in page


def test_the_report_of_a_discarded_run_says_so_with_the_reason_as_text(quick):
    quick.write(Path("/nowhere"))
    quick.environment["STAND_IN"] = "stops"
    quick("run", "manifests")
    report = quick.runs / "orders" / "report.html"
    assert "<strong>" not in report.read_text()
    quick("discard", "orders", "--reason", "<b>worse</b>")
    assert "&lt;b&gt;worse&lt;/b&gt;" in report.read_text()
    assert "<strong>Failed</strong>" in report.read_text()


def test_the_report_of_a_run_that_passed_is_the_trainers(quick):
    quick.write(Path("/nowhere"))
    assert quick("run", "manifests").returncode == 0
    (page,) = (quick.runs / "volumes" / "tuning").glob("*/report.html")
    assert (quick.runs / "orders" / "report.html").read_text() == page.read_text()
