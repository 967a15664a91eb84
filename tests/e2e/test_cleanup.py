"""After ``ttlSecondsAfterFinished``, the files, Jobs and pods of a finished job are removed, but its
published model is kept."""

import pytest

from support.node import Node
from support.tiny_job import TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


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
