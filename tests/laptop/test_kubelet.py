"""Jobs on a laptop run as real processes, and have the same status as on Kubernetes."""

import base64
import json
import os
import signal
import time
from typing import Any

import psutil
import pytest

from support.laptop import TINY_TRAINER, Laptop, terminated
from support.waiting import eventually
from tunegate_api.contract.workspace import Workspace
from tunegate_client.laptop.pod_process import is_alive
from tunegate_operator.children import pod_status
from tunegate_operator.engine.cluster import InvalidObjectError, Key, Object
from tunegate_operator.engine.objects import has_condition, uid_of


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and is_alive(psutil.Process(pid))


def test_job_runs_to_completion(laptop: Laptop) -> None:
    laptop.create_job("exit", "0", "Completed")
    assert laptop.until_finished()["type"] == "Complete"
    status = laptop.job()["status"]
    assert (status["succeeded"], status["failed"], status["active"]) == (1, 0, 0)
    assert status["completionTime"] >= status["startTime"]
    pod = laptop.pod()
    assert pod["status"]["phase"] == "Succeeded"
    assert terminated(pod)["reason"] == "Completed"
    assert json.loads(terminated(pod)["message"]) == {"exitCode": 0, "outcome": "Completed"}


def test_running_pod_has_the_fields_of_a_kubernetes_pod(laptop: Laptop) -> None:
    laptop.create_job("train")
    laptop.until_training()
    pod = laptop.pod()
    assert pod["metadata"]["name"].startswith("train-")
    assert pod["metadata"]["labels"]["role"] == "train"
    assert pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "train"
    assert pod["metadata"]["ownerReferences"][0]["uid"] == uid_of(laptop.job())
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    laptop.until(lambda: laptop.job()["status"]["ready"] == 1)
    assert laptop.job()["status"]["active"] == 1


def test_end_of_the_log_replaces_a_missing_termination_message(laptop: Laptop) -> None:
    laptop.create_job("exit", "3")
    laptop.until_finished()
    assert terminated(laptop.pod())["message"] == "last words\n"
    name = laptop.pod()["metadata"]["name"]
    assert laptop.cluster.log_file(name).read_text() == "last words\n"


def test_failed_pod_is_retried_up_to_the_backoff_limit(laptop: Laptop) -> None:
    laptop.create_job("exit", "1", backoffLimit=2)
    condition = laptop.until_finished()
    assert (condition["type"], condition["reason"]) == ("Failed", "BackoffLimitExceeded")
    assert laptop.job()["status"]["failed"] == 3
    assert len(laptop.pods()) == 3


def test_permanent_exit_code_fails_the_job_at_once(laptop: Laptop) -> None:
    laptop.create_job("exit", "10", backoffLimit=5)
    condition = laptop.until_finished()
    assert (condition["type"], condition["reason"]) == ("Failed", "PodFailurePolicy")
    assert "failed with exit code 10 matching FailJob rule at index 1" in condition["message"]
    assert len(laptop.pods()) == 1


def test_killed_pod_is_retried(laptop: Laptop) -> None:
    laptop.create_job("train", backoffLimit=1)
    first = laptop.until_training()
    os.kill(first, signal.SIGKILL)
    laptop.until(lambda: len(laptop.starts()) == 2)
    assert laptop.job()["status"]["failed"] == 1
    (failed,) = [pod for pod in laptop.pods() if pod_status.is_terminal(pod)]
    assert terminated(failed)["exitCode"] == 137


def test_deleting_a_job_lets_its_pod_save_and_report(laptop: Laptop) -> None:
    laptop.create_job("train")
    pid = laptop.until_training()
    laptop.cluster.delete(Key.of(laptop.job()), uid_of(laptop.job()))
    terminating = laptop.pod()
    assert terminating["metadata"]["deletionTimestamp"]
    laptop.until(lambda: not laptop.pods())
    assert not is_running(pid)
    assert laptop.reports[-1]["outcome"] == "Interrupted", "its last report was lost"
    assert not (laptop.root / "state" / "pods" / terminating["metadata"]["name"]).exists()


def test_deleting_the_owner_stops_its_jobs_and_pods(laptop: Laptop) -> None:
    laptop.create_job("train")
    pid = laptop.until_training()
    laptop.cluster.delete(Key.of(laptop.owner), uid_of(laptop.owner))
    laptop.until(lambda: not laptop.pods())
    assert laptop.cluster.list_objects("Job") == []
    assert not is_running(pid)


def test_pod_that_ignores_sigterm_is_killed_after_its_grace_period(laptop: Laptop) -> None:
    laptop.create_job("ignore-sigterm", pod={"terminationGracePeriodSeconds": 1})
    pid = laptop.until_training()
    began = time.monotonic()
    laptop.cluster.delete(Key.of(laptop.job()), uid_of(laptop.job()))
    laptop.until(lambda: not laptop.pods())
    assert not is_running(pid)
    assert time.monotonic() - began >= 1, "it did not get its grace period"


def test_child_processes_end_with_the_trainer(laptop: Laptop) -> None:
    laptop.create_job("child")
    laptop.until_finished()
    child = int((laptop.volume / "child").read_text())
    eventually(lambda: not is_running(child), what="the trainer's own child ended")


def test_job_fails_at_its_active_deadline(laptop: Laptop) -> None:
    laptop.create_job("train", activeDeadlineSeconds=1)
    pid = laptop.until_training()
    condition = laptop.until_finished()
    assert (condition["type"], condition["reason"]) == ("Failed", "DeadlineExceeded")
    assert not is_running(pid), "the Job was Failed while its pod still ran"


def test_suspended_job_has_no_pods(laptop: Laptop) -> None:
    laptop.create_job("train", suspend=True)
    laptop.until(lambda: laptop.job().get("status", {}).get("conditions"))
    assert laptop.pods() == []
    job = laptop.job()
    laptop.cluster.replace(job | {"spec": job["spec"] | {"suspend": False}})
    laptop.until_training()
    job = laptop.job()
    laptop.cluster.replace(job | {"spec": job["spec"] | {"suspend": True}})
    laptop.until(lambda: not laptop.pods())
    assert has_condition(laptop.job(), "Suspended")


def test_job_with_parallelism_but_without_indexes_is_refused(laptop: Laptop) -> None:
    with pytest.raises(InvalidObjectError, match="parallelism"):
        laptop.create_job("train", parallelism=2)


def test_command_that_does_not_exist_fails_the_pod(laptop: Laptop) -> None:
    laptop.create_job(pod={"containers": [{"name": "trainer", "command": ["/no/such/command"]}]})
    laptop.until_finished()
    assert terminated(laptop.pod())["reason"] == "StartError"
    assert "/no/such/command" in terminated(laptop.pod())["message"]


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod_that_prints(*paths: str, mounts: list[Object], volumes: list[Object]) -> dict[str, Any]:
    env = [
        {"name": "TUNEGATE_TEST_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "TUNEGATE_TEST_CREDENTIAL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    container = {
        "name": "trainer",
        "command": [*TINY_TRAINER, "print", *paths],
        "env": env,
        "volumeMounts": mounts,
    }
    return {"containers": [container], "volumes": volumes}


def test_pod_has_its_volumes_and_environment(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_TEST_CREDENTIAL", "from the shell")
    laptop.cluster.create(config_map("request", **{"request.json": "{1}"}))
    laptop.cluster.create(config_map("inputs", **{"train.jsonl": "{2}"}))
    (laptop.volume / "nested").mkdir(parents=True)
    (laptop.volume / "nested" / "file").write_text("{3}")
    pod = pod_that_prints(
        "request/request.json",
        "inputs/data/train.jsonl",
        "part/file",
        mounts=[
            {"name": "request", "mountPath": "/tunegate/request"},
            {"name": "inputs", "mountPath": "/tunegate/inputs/data"},
            {"name": "runs", "mountPath": "/tunegate/part", "subPath": "nested"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        volumes=[
            {"name": "request", "configMap": {"name": "request"}},
            {"name": "inputs", "configMap": {"name": "inputs"}},
            {"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    )
    laptop.create_job(pod=pod)
    assert laptop.until_finished()["type"] == "Complete"
    name = laptop.pod()["metadata"]["name"]
    *files, environment = laptop.cluster.log_file(name).read_text().splitlines()
    assert files == ["request/request.json = {1}", "inputs/data/train.jsonl = {2}", "part/file = {3}"]
    seen = json.loads(environment)
    assert seen["TUNEGATE_TEST_NAME"] == name
    assert seen["TUNEGATE_TEST_CREDENTIAL"] == "from the shell"
    assert seen["PATH"] == os.environ["PATH"]


def test_read_only_mount_of_a_volume_folder_changes_nothing(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGATE_TEST_CREDENTIAL", "from the shell")
    (laptop.volume / "tunegate").mkdir(parents=True)
    (laptop.volume / "tunegate" / "file").write_text("{1}")
    runs, folder = {"name": "runs", "mountPath": "/tunegate/runs"}, "tunegate"
    reserved = {**runs, "mountPath": f"/tunegate/runs/{folder}", "subPath": folder, "readOnly": True}
    pod = pod_that_prints(
        "runs/tunegate/file",
        mounts=[runs, reserved],
        volumes=[{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}],
    )
    laptop.create_job(pod=pod)
    assert laptop.until_finished()["type"] == "Complete"
    name = laptop.pod()["metadata"]["name"]
    assert "runs/tunegate/file = {1}" in laptop.cluster.log_file(name).read_text()


@pytest.mark.parametrize(("limit", "threads"), [("2", "2"), ("1500m", "2"), ("0.5", "1")])
def test_environment_variable_with_the_cpu_limit_is_in_whole_cores(
    laptop: Laptop, limit: str, threads: str
) -> None:
    source = {"containerName": "trainer", "resource": "limits.cpu", "divisor": "1"}
    variable = {"name": "TUNEGATE_TEST_THREADS", "valueFrom": {"resourceFieldRef": source}}
    container = {"name": "trainer", "command": [*TINY_TRAINER, "print"], "env": [variable]}
    laptop.create_job(pod={"containers": [container | {"resources": {"limits": {"cpu": limit}}}]})
    assert laptop.until_finished()["type"] == "Complete"
    seen = json.loads(laptop.cluster.log_file(laptop.pod()["metadata"]["name"]).read_text())
    assert seen["TUNEGATE_TEST_THREADS"] == threads


def test_pod_waits_for_a_missing_config_map(laptop: Laptop) -> None:
    container = {"name": "trainer", "command": ["/bin/true"]}
    laptop.create_job(
        pod={"containers": [container], "volumes": [{"name": "request", "configMap": {"name": "late"}}]}
    )
    waiting = laptop.until(lambda: laptop.pods() and laptop.pod()["status"]["containerStatuses"][0]["state"])
    assert waiting["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": 'configmap "late" not found',
    }
    version = laptop.pod()["metadata"]["resourceVersion"]
    laptop.cluster.step()
    assert laptop.pod()["metadata"]["resourceVersion"] == version, "the same status was written again"
    laptop.cluster.create(config_map("late", x="1"))
    assert laptop.until_finished()["type"] == "Complete"


def test_pod_waits_for_a_secret_variable_missing_in_environment(laptop: Laptop) -> None:
    laptop.create_job(pod=pod_that_prints(mounts=[], volumes=[]))
    state = laptop.until(lambda: laptop.pods() and laptop.pod()["status"]["containerStatuses"][0]["state"])
    assert "set TUNEGATE_TEST_CREDENTIAL in your environment" in state["waiting"]["message"]


def secret(name: str, **data: str) -> Object:
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def pod_with_secret(command: str, **source: Any) -> Object:
    """Build a pod that runs a shell command. The Secret ``hub`` is mounted at
    ``$TUNEGATE_ROOT/secrets/hub``."""
    container = {
        "name": "trainer",
        "command": ["/bin/sh", "-c", command],
        "volumeMounts": [{"name": "hub", "mountPath": "/tunegate/secrets/hub"}],
        "env": [{"name": "TUNEGATE_TEST_KEY", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "KEY"}}}],
    }
    volumes = [{"name": "hub", "secret": {"secretName": "hub", **source}}]
    return {"containers": [container], "volumes": volumes}


def test_secret_is_private_and_removed_when_its_pod_has_ended(laptop: Laptop) -> None:
    laptop.cluster.create(secret("hub", TOKEN="t0ken", KEY="k3y"))
    folder = "$TUNEGATE_ROOT/secrets/hub"
    look = f'echo "$(cat {folder}/TOKEN) $TUNEGATE_TEST_KEY $(stat -Lc %a {folder})"'
    laptop.create_job(pod=pod_with_secret(look))
    assert laptop.until_finished()["type"] == "Complete"
    assert laptop.cluster.log_file(laptop.pod()["metadata"]["name"]).read_text() == "t0ken k3y 700\n"
    kept = [path for path in laptop.root.rglob("*") if path.is_file() and b"t0ken" in path.read_bytes()]
    assert [path.name for path in kept if path.suffix != ".log"] == [], "the secret is left in clear text"
    (stored,) = laptop.root.rglob("Secret/default/hub.yaml")
    assert stored.stat().st_mode & 0o077 == 0


def test_pod_waits_for_a_secret_missing_in_the_manifests(laptop: Laptop) -> None:
    laptop.create_job(pod=pod_with_secret("true"))
    state = laptop.until(lambda: laptop.pods() and laptop.pod()["status"]["containerStatuses"][0]["state"])
    assert state["waiting"]["message"] == 'secret "hub" not found: add it to the manifests'
    laptop.cluster.create(secret("hub", KEY="k"))
    assert laptop.until_finished()["type"] == "Complete"


def test_optional_secret_may_be_missing(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_TEST_KEY", "from the shell")
    laptop.create_job(pod=pod_with_secret("ls $TUNEGATE_ROOT/secrets/hub | wc -l", optional=True))
    assert laptop.until_finished()["type"] == "Complete"
    assert laptop.cluster.log_file(laptop.pod()["metadata"]["name"]).read_text() == "0\n"


def test_pod_with_dots_in_a_mount_path_does_not_start(laptop: Laptop) -> None:
    container = {
        "name": "trainer",
        "command": ["/bin/true"],
        "volumeMounts": [{"name": "runs", "mountPath": "/tunegate/../../../etc"}],
    }
    volumes = [{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}]
    laptop.create_job(pod={"containers": [container], "volumes": volumes})
    state = laptop.until(lambda: laptop.pods() and laptop.pod()["status"]["containerStatuses"][0]["state"])
    assert "must not contain '..'" in state["waiting"]["message"]


def test_last_report_is_read_before_its_pods_end_is_recorded(laptop: Laptop) -> None:
    order: list[str] = []
    laptop.cluster.watch_reports(lambda report: order.append(report.get("outcome", "progress")))
    laptop.cluster.watch(
        lambda event: (
            order.append("ended")
            if event.obj["kind"] == "Pod" and pod_status.is_terminal(event.obj)
            else None
        )
    )
    laptop.create_job("train")
    os.kill(laptop.until_training(), signal.SIGTERM)
    laptop.until_finished()
    assert order.index("Interrupted") < order.index("ended")


def test_unchanged_report_is_not_read_again(laptop: Laptop) -> None:
    laptop.create_job("train")
    laptop.until_training()
    laptop.cluster.step()
    assert [report["sequence"] for report in laptop.reports] == [1]


def test_broken_report_is_skipped(laptop: Laptop) -> None:
    laptop.create_job("train")
    laptop.until_training()
    outbox = laptop.volume / Workspace(uid_of(laptop.owner)).outbox
    (outbox / "broken.json").write_text("{")
    (outbox / "train.json").write_text(json.dumps({"sequence": 9}))
    laptop.cluster.step()
    assert laptop.reports[-1]["sequence"] == 9
