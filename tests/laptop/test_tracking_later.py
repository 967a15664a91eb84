"""If a tracker is unreachable when a job ends, `tunegate run` reports this. Running the command again
retries."""

import signal
from pathlib import Path

import pytest

from support.waiting import eventually

MLFLOW = {"mlflow": {"uri": "http://mlflow.internal", "experiment": "orders"}}


@pytest.mark.slow
def test_repeated_command_sends_metrics_once_the_tracker_is_reachable(quick):
    quick.write(Path("/nowhere"), tracking=MLFLOW)
    quick.environment["STAND_IN_UNREACHABLE"] = "mlflow"
    result = quick("run", "manifests")
    assert result.returncode == 0, "the job passed"
    assert "tracking  mlflow may lack metrics, which are in the folder " in result.stdout
    assert quick.status()["tracking"]["result"] == "TrackerBehind"
    assert quick.pods() == []

    del quick.environment["STAND_IN_UNREACHABLE"]
    result = quick("run", "manifests")
    assert result.returncode == 0
    assert "tracking  sent the remaining metrics to mlflow" in result.stdout
    assert quick.status()["tracking"]["result"] == "Succeeded"
    ended = quick.object()
    assert quick("run", "manifests").returncode == 0
    assert quick.object() == ended, "nothing is left to send"


@pytest.mark.slow
def test_tracking_is_not_retried_after_cleanup_removed_the_files(quick):
    """After the cleanup, the volume no longer has the metrics that the tracker has not received."""
    quick.write(Path("/nowhere"), tracking=MLFLOW, ttlSecondsAfterFinished=0)
    quick.environment["STAND_IN_UNREACHABLE"] = "mlflow"
    quick("run", "manifests")
    del quick.environment["STAND_IN_UNREACHABLE"]
    quick("run", "manifests")
    status = quick.status()
    assert (status["tracking"]["result"], status["cleanup"]["result"]) == ("TrackerBehind", "Succeeded")
    quick("run", "manifests")
    assert quick.status()["tracking"] == status["tracking"]


def test_tracker_receives_the_failure_of_a_discarded_run(quick):
    quick.write(Path("/nowhere"), tracking=MLFLOW)
    quick.environment["STAND_IN"] = "stops"
    quick("run", "manifests")
    assert "tracking" not in quick.status(), "the pods sent all metrics"
    assert (
        "tracking  sent the remaining metrics to mlflow"
        in quick("discard", "orders", "--reason", "worse").stdout
    )
    assert quick.status()["tracking"]["result"] == "Succeeded"
    assert "sent: --trackers mlflow --failure Discarded: " in quick.logs()


def test_ctrl_c_while_tracking_keeps_the_jobs_result(quick):
    quick.write(Path("/nowhere"), tracking=MLFLOW)
    quick.environment["STAND_IN_UNREACHABLE"] = "mlflow"
    process = quick.start("run", "manifests")
    logs = quick.runs / ".cluster" / "logs"
    eventually(
        lambda: [p for p in logs.glob("*-track-*") if "sent:" in p.read_text()],
        seconds=60,
        what="a pod sends metrics to the tracker",
    )
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "remaining data not yet sent to mlflow" in output

    del quick.environment["STAND_IN_UNREACHABLE"]
    assert "tracking  sent the remaining metrics to mlflow" in quick("run", "manifests").stdout


@pytest.mark.slow
def test_log_path_of_a_tracking_pod_is_not_printed(quick):
    grace = {"terminationGracePeriodSeconds": 5}
    quick.write(Path("/nowhere"), tracking=MLFLOW, activeDeadlineSeconds=8, podTemplate=grace)
    quick.environment["STAND_IN"] = "trains"
    result = quick("run", "manifests")
    (log,) = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("log ")]
    assert "-track-" not in log
    assert quick.status()["tracking"]["result"] == "Succeeded"
