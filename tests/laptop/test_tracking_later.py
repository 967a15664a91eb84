"""A tracker that is away when a job ends: `tunegate run` says so, and the same command tries again."""

import signal
from pathlib import Path

from support.waiting import eventually

MLFLOW = {"mlflow": {"uri": "http://mlflow.internal", "experiment": "orders"}}


def test_the_same_command_tells_the_rest_once_the_tracker_is_there(quick):
    quick.write(Path("/nowhere"), tracking=MLFLOW)
    quick.environment["STAND_IN_AWAY"] = "mlflow"
    result = quick("run", "manifests")
    assert result.returncode == 0, "the job passed"
    assert "tracking  mlflow may lack metrics, which are in the folder " in result.stdout
    assert quick.status()["tracking"]["result"] == "TrackerBehind"
    assert quick.pods() == []

    del quick.environment["STAND_IN_AWAY"]
    result = quick("run", "manifests")
    assert result.returncode == 0
    assert "tracking  sent the remaining metrics to mlflow" in result.stdout
    assert quick.status()["tracking"]["result"] == "Succeeded"
    ended = quick.object()
    assert quick("run", "manifests").returncode == 0
    assert quick.object() == ended, "there is nothing more to tell"


def test_files_that_were_removed_are_told_to_nobody(quick):
    """What is left says less than trackers know."""
    quick.write(Path("/nowhere"), tracking=MLFLOW, ttlSecondsAfterFinished=0)
    quick.environment["STAND_IN_AWAY"] = "mlflow"
    quick("run", "manifests")
    del quick.environment["STAND_IN_AWAY"]
    quick("run", "manifests")
    status = quick.status()
    assert (status["tracking"]["result"], status["cleanup"]["result"]) == ("TrackerBehind", "Succeeded")
    quick("run", "manifests")
    assert quick.status()["tracking"] == status["tracking"]


def test_trackers_hear_of_a_run_that_a_person_discarded(quick):
    quick.write(Path("/nowhere"), tracking=MLFLOW)
    quick.environment["STAND_IN"] = "stops"
    quick("run", "manifests")
    assert "tracking" not in quick.status(), "the pods told all there was"
    assert (
        "tracking  sent the remaining metrics to mlflow"
        in quick("discard", "orders", "--reason", "worse").stdout
    )
    assert quick.status()["tracking"]["result"] == "Succeeded"
    assert "told: --trackers mlflow --failure Discarded: " in quick.logs()


def test_ctrl_c_while_a_tracker_is_tried_leaves_the_job_as_it_ended(quick):
    quick.write(Path("/nowhere"), tracking=MLFLOW)
    quick.environment["STAND_IN_AWAY"] = "mlflow"
    process = quick.start("run", "manifests")
    logs = quick.runs / ".cluster" / "logs"
    eventually(
        lambda: [p for p in logs.glob("*-track-*") if "told:" in p.read_text()],
        seconds=60,
        what="a pod tells the tracker",
    )
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "remaining data not yet sent to mlflow" in output

    del quick.environment["STAND_IN_AWAY"]
    assert "tracking  sent the remaining metrics to mlflow" in quick("run", "manifests").stdout


def test_the_log_that_is_named_is_none_of_a_pod_that_only_tells_trackers(quick):
    grace = {"terminationGracePeriodSeconds": 5}
    quick.write(Path("/nowhere"), tracking=MLFLOW, activeDeadlineSeconds=8, podTemplate=grace)
    quick.environment["STAND_IN"] = "trains"
    result = quick("run", "manifests")
    (log,) = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("log ")]
    assert "-track-" not in log
    assert quick.status()["tracking"]["result"] == "Succeeded"
