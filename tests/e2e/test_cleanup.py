"""After ``ttlSecondsAfterFinished``, the files, Jobs and pods of a finished job are removed, but its
published model is kept. With ``storage.onDelete: Delete``, all files of a deleted job are removed."""

import re
from pathlib import Path

import pytest

from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually
from tunegate_api.contract.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
STORAGE = {"persistentVolumeClaim": "tuning", "onDelete": "Delete"}


def folder_of(job: TinyJob) -> Path:
    return job.storage / Workspace(job.get()["metadata"]["uid"]).job


def test_finished_job_is_cleaned_up_after_its_ttl(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(ttlSecondsAfterFinished=5)
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    published = job.models / status["published"][0]["uri"].removeprefix("pvc://models/")
    folder = job.stage().path.parents[1]
    assert list(folder.glob("stages/*/step-*"))

    cleanup = eventually(lambda: job.status().get("cleanup"), seconds=180, what="it was cleaned up", pause=1)
    assert cleanup["result"] == "Succeeded", cleanup["message"]
    assert not list(folder.glob("stages/*/step-*"))
    assert (folder / "report.html").exists()
    assert (published / "adapter_model.safetensors").exists()
    eventually(lambda: job.child_jobs() == [], seconds=60, what="its Jobs are deleted", pause=1)
    assert job.status()["phase"] == "Succeeded"


def test_files_of_deleted_jobs_are_removed(node: Node, namespace: str) -> None:
    node.install()
    kept, ended, training = (TinyJob(node, namespace, name) for name in ("kept", "ended", "training"))
    kept.apply()
    ended.apply(storage=STORAGE)
    for job in (kept, ended):
        status = job.ended()
        assert status["phase"] == "Succeeded", status["message"]
    training.apply(LONG, storage=STORAGE)
    training.wait_for_checkpoints(1)
    folders = {job: folder_of(job) for job in (kept, ended, training)}
    published = ended.models / status["published"][0]["uri"].removeprefix("pvc://models/")

    node.kubectl("delete", "ftj", "ended", "-n", namespace, "--timeout=300s")
    node.kubectl("delete", "ftj", "training", "-n", namespace, "--cascade=foreground", "--timeout=300s")
    assert list(folders[ended].iterdir()) == []
    assert list(folders[training].iterdir()) == []
    assert (published / "adapter_model.safetensors").exists()
    assert list((kept.storage / Workspace.models).iterdir())
    node.kubectl("delete", "ftj", "kept", "-n", namespace, "--timeout=60s")
    assert (folders[kept] / "report.html").exists()
    assert left_files(node, namespace) == ""


def test_missing_claim_does_not_hold_a_deletion(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(storage=STORAGE)
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    folder = folder_of(job).relative_to(job.storage)
    # The claim is being deleted as long as pods of the job exist, also ended ones.
    node.kubectl("delete", "pvc", "tuning", "-n", namespace, "--wait=false")
    node.kubectl("delete", "ftj", job.name, "-n", namespace, "--timeout=120s")
    message = eventually(lambda: left_files(node, namespace), seconds=10, what="the event about the files")
    assert f"files remain in the folder {folder} on the claim tuning" in message
    assert re.search('persistentvolumeclaim "tuning" (not found|is being deleted)', message), message


def left_files(node: Node, namespace: str) -> str:
    """Return the messages of the events about files that remain after a deletion."""
    reason, messages = "--field-selector=reason=CleanupFailed", "-o=jsonpath={.items[*].message}"
    return node.kubectl("get", "events", "-n", namespace, reason, messages)
