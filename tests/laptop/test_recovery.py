"""If the process that has locked a folder is killed, the next process resumes from the folder's state."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from support.laptop import Laptop, terminated
from support.waiting import eventually
from tunegate_client.laptop.cluster import LocalCluster, RootInUseError
from tunegate_client.laptop.pod_process import ProcessRecord, is_alive
from tunegate_operator.engine.cluster import Key
from tunegate_operator.engine.objects import has_condition, uid_of


def test_running_trainer_is_adopted_after_a_restart(laptop: Laptop) -> None:
    laptop.create_job("train")
    pid = laptop.until_training()
    laptop.reopen()
    laptop.cluster.step()
    assert laptop.starts() == [pid]
    assert laptop.pod()["status"]["phase"] == "Running"


def test_trainer_without_a_process_record_is_found(laptop: Laptop) -> None:
    laptop.create_job("train")
    pid = laptop.until_training()
    pod = laptop.pod()
    # As after a crash between starting the trainer and recording it.
    (laptop.root / "state" / "pods" / pod["metadata"]["name"] / "process.json").unlink()
    laptop.cluster.patch_status(Key.of(pod), {"phase": "Pending"}, pod["metadata"]["resourceVersion"])
    laptop.reopen()
    laptop.cluster.step()
    assert laptop.starts() == [pid]
    assert laptop.pod()["status"]["phase"] == "Running"
    record = ProcessRecord.read(laptop.root / "state" / "pods" / pod["metadata"]["name"] / "process.json")
    assert record is not None
    assert record.pid == pid


def test_other_process_with_the_recorded_pid_is_not_adopted(laptop: Laptop) -> None:
    laptop.create_job("train")
    os.kill(laptop.until_training(), signal.SIGKILL)
    record = laptop.root / "state" / "pods" / laptop.pod()["metadata"]["name"] / "process.json"
    ProcessRecord(os.getpid(), psutil.Process().create_time()).write(record)
    laptop.reopen()
    laptop.until_finished()
    assert terminated(laptop.pod())["exitCode"] == 137


def test_exit_code_of_an_adopted_trainer_comes_from_termination_message(laptop: Laptop) -> None:
    laptop.create_job("train")
    pid = laptop.until_training()
    laptop.reopen()
    os.kill(pid, signal.SIGTERM)
    laptop.until_finished()
    assert terminated(laptop.pod())["exitCode"] == 75
    assert laptop.reports[-1]["outcome"] == "Interrupted"


def test_trainer_ended_between_commands_keeps_exit_code_and_report(laptop: Laptop) -> None:
    laptop.create_job("train")
    pid = laptop.until_training()
    trainer = psutil.Process(pid)
    laptop.cluster.close()
    trainer.terminate()
    eventually(lambda: not is_alive(trainer))
    laptop.reports.clear()
    laptop.reopen()
    laptop.until_finished()
    assert terminated(laptop.pod())["exitCode"] == 75
    assert laptop.reports[-1]["outcome"] == "Interrupted", "its last report was not read after the restart"


def test_trainer_ended_by_a_reboot_is_not_counted_as_failed(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.create_job("train", backoffLimit=0)
    os.kill(laptop.until_training(), signal.SIGKILL)
    laptop.cluster.close()
    monkeypatch.setattr(psutil, "boot_time", lambda: time.time() + 60)
    laptop.reopen()
    laptop.until(lambda: len(laptop.starts()) == 2)
    assert laptop.job()["status"]["failed"] == 0


def test_folder_of_a_deleted_pod_is_removed(laptop: Laptop) -> None:
    laptop.create_job("exit", "0")
    laptop.until_finished()
    pods = laptop.root / "state" / "pods"
    (pods / "gone").mkdir()
    (pods / "gone" / "link").symlink_to(laptop.volume)
    laptop.reopen()
    assert [folder.name for folder in pods.iterdir()] == [laptop.pod()["metadata"]["name"]]
    assert laptop.volume.exists()


def test_reports_of_finished_pods_are_read_after_a_restart(laptop: Laptop) -> None:
    laptop.create_job("train")
    os.kill(laptop.until_training(), signal.SIGTERM)
    laptop.until_finished()
    laptop.reports.clear()
    laptop.reopen()
    laptop.cluster.step()
    assert [report["outcome"] for report in laptop.reports] == ["Interrupted"]


def test_deletion_of_a_job_continues_after_a_restart(laptop: Laptop) -> None:
    laptop.create_job("train")
    pid = laptop.until_training()
    laptop.cluster.delete(Key.of(laptop.job()), uid_of(laptop.job()))
    laptop.reopen()
    laptop.until(lambda: not laptop.pods())
    assert not psutil.pid_exists(pid) or not is_alive(psutil.Process(pid))


def test_interrupted_pod_is_not_counted_as_failed(laptop: Laptop) -> None:
    laptop.create_job("train", backoffLimit=0)
    laptop.until_training()
    laptop.cluster.interrupt()
    (interrupted,) = laptop.pods()
    assert terminated(interrupted)["exitCode"] == 75
    assert has_condition(interrupted, "DisruptionTarget")
    assert laptop.reports[-1]["outcome"] == "Interrupted"
    laptop.reopen()
    laptop.until(lambda: len(laptop.starts()) == 2)
    laptop.until(lambda: laptop.job()["status"]["active"] == 1)
    assert laptop.job()["status"]["failed"] == 0


def test_interruption_kills_a_trainer_that_ignores_sigterm(laptop: Laptop) -> None:
    laptop.create_job("ignore-sigterm")
    pid = laptop.until_training()
    laptop.cluster.interrupt(limit=0.2)
    assert not psutil.pid_exists(pid) or not is_alive(psutil.Process(pid))
    assert terminated(laptop.pod())["exitCode"] == 137


def test_pod_that_failed_before_an_interruption_counts_as_failed(laptop: Laptop) -> None:
    laptop.create_job("train")
    pid = laptop.until_training()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: f"wait-{pid}" not in {thread.name for thread in threading.enumerate()})
    laptop.cluster.interrupt()
    assert not has_condition(laptop.pod(), "DisruptionTarget")


def test_second_process_cannot_lock_the_same_folder(laptop: Laptop) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tunegate_client.laptop.cluster import LocalCluster\n"
        "LocalCluster(Path(sys.argv[1]), lambda claim: Path('/nowhere'))\n"
    )
    state = laptop.root / "state"
    second = subprocess.run(
        [sys.executable, "-c", code, str(state)], capture_output=True, text=True, check=False
    )
    assert f"RootInUseError: {state} is in use by process {os.getpid()}" in second.stderr
    with pytest.raises(RootInUseError):
        LocalCluster(state, lambda claim: Path("/nowhere"))  # noqa: ARG005
    laptop.cluster.close()
    third = subprocess.run([sys.executable, "-c", code, str(state)], capture_output=True, check=False)
    assert third.returncode == 0
    laptop.reopen()


def test_trainer_survives_a_kill_of_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from support.laptop import Laptop\n"
        "laptop = Laptop(Path(sys.argv[2])); laptop.create_job('train'); laptop.until_training()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    tests = Path(__file__).parents[1]
    dead = subprocess.run([sys.executable, "-c", code, str(tests), str(tmp_path)], check=False)
    assert dead.returncode == -signal.SIGKILL
    laptop = Laptop(tmp_path)
    try:
        laptop.cluster.step()
        (pid,) = laptop.starts()
        assert laptop.pod()["status"]["phase"] == "Running"
        laptop.cluster.delete(Key.of(laptop.job()), uid_of(laptop.job()))
        laptop.until(lambda: not laptop.pods())
        assert not psutil.pid_exists(pid) or not is_alive(psutil.Process(pid))
    finally:
        laptop.cluster.interrupt(limit=0)
        laptop.cluster.close()
