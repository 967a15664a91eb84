"""During training, the operator is upgraded with newer CRDs and rolled back: the job's result does not
change."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.command import Command
from support.helm import chart_with_one_more_field
from support.masking import masked_status
from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.tiny_model import save_tiny_model
from support.waiting import eventually
from support.waiting_job import waiting_job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
CRD = "finetunejobs.tunegate.dev"
ONE_OF_EACH = ["data 1", "gate 1", "publish 1", "train 1"]


@contextmanager
def paused(job: TinyJob) -> Iterator[int]:
    """Pause the job's training process, so that training cannot end too soon. Yields the process id."""
    process = job.process("train")
    process.suspend()
    try:
        yield process.pid
    finally:
        process.resume()


def has_mixing_field(node: Node) -> bool:
    """Return whether the installed CRD has the field that only the newer chart has."""
    crd = json.loads(node.kubectl("get", "crd", CRD, "-o", "json"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return "mixing" in spec["properties"]


def condition(node: Node, namespace: str, name: str, type: str) -> dict[str, Any]:
    conditions = node.get("ftj", name, namespace).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == type), {})


def set_mixing(job: TinyJob, value: str | None) -> None:
    """Set or remove the newer chart's field in a job. Retries, because the API server may serve a new CRD
    with a delay."""
    patch = json.dumps({"spec": {"mixing": value}})

    def is_changed() -> bool:
        job.node.kubectl("patch", "ftj", job.name, "-n", job.namespace, "--type=merge", "-p", patch)
        return bool(job.get()["spec"].get("mixing") == value)

    eventually(is_changed, seconds=60, what=f"spec.mixing is {value}", pause=1)


def test_training_continues_during_upgrade_and_rollback(node: Node, namespace: str, tmp_path: Path) -> None:
    newer = chart_with_one_more_field(tmp_path / "newer")
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for_checkpoints(1)
    try:
        with paused(job) as trainer:
            node.install("log.level=DEBUG", chart=newer)  # a new pod of the operator, too
            assert has_mixing_field(node)
            early = waiting_job("early")
            early["spec"]["mixing"] = "even"

            def is_taken() -> bool:
                node.apply(namespace, early)
                return True

            eventually(is_taken, seconds=60, what="a job may have the field", pause=1)
            eventually(
                lambda: condition(node, namespace, "early", "Stalled").get("reason") == "InvalidSpec",
                seconds=60,
                what="its field is refused before it starts",
                pause=1,
            )
            assert job.status()["phase"] == "Training"
            node.rollback()
            assert not has_mixing_field(node)
            assert job.process("train").pid == trainer
    finally:
        node.install()
    assert job.ended()["phase"] == "Succeeded", job.status()["message"]
    assert job.child_jobs() == ONE_OF_EACH
    events = node.kubectl("get", "events", "-n", namespace, "--field-selector", "involvedObject.name=orders")
    assert "SpecNotUnderstood" not in events

    undisturbed = Command(tmp_path)
    here = tmp_path / "runs" / "volumes" / "models" / "tiny"
    here.mkdir(parents=True)
    save_tiny_model(here)
    undisturbed.write_all(job.manifests(LONG))
    done = undisturbed("run", "manifests")
    assert done.returncode == 0, done.stdout
    assert masked_status(job.get()) == masked_status(undisturbed.object())


def test_job_with_a_field_of_a_newer_release_is_held(node: Node, namespace: str, tmp_path: Path) -> None:
    newer = chart_with_one_more_field(tmp_path / "newer")
    # A watch that is open while the CRD changes serves the old one. A list shows the field.
    often = "resyncSeconds=10"
    node.install(often)
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for_checkpoints(1)
    try:
        with paused(job):
            node.install(often, chart=newer)
            set_mixing(job, "even")
            assert "spec.mixing" in job.wait_for_reason("SpecNotUnderstood")
        assert condition(node, namespace, "orders", "Stalled")["status"] == "True"
        eventually(
            lambda: not job.pods("train"),
            seconds=600,
            what="training has ended while the job is held",
            pause=1,
        )
        assert job.status()["phase"] == "Training"
        assert job.child_jobs() == ["data 1", "train 1"]

        # The training results are only on the volume, because their report was not acknowledged.
        node.process(node.leader()).kill()
        set_mixing(job, None)
        status = job.ended()
    finally:
        node.install()
    assert status["phase"] == "Succeeded", status["message"]
    assert [one for one in job.child_jobs() if not one.startswith("report ")] == ONE_OF_EACH
    stage = job.stage()
    assert [point["step"] for point in status["checkpoints"]] == stage.evaluated()
    assert list(stage.losses()) == list(range(1, LONG["maxSteps"] + 1))
    assert stage.writers() == 1
