"""Pods that read the pinned version of a gate get its volume."""

import pytest

from support.builders import make_gate, make_job
from support.world import World
from tunegate_api.v1alpha2.reasons import Reason

DIGEST = "c" * 64


def world_with_version(uri: str) -> World:
    world = World()
    gate = make_gate().with_spec(compareWith=[{"type": "Version", "version": {"uri": uri, "digest": DIGEST}}])
    world.apply_all(make_job().obj(), gate=gate.obj())
    return world


@pytest.mark.parametrize(("role", "mounts"), [("data", 1), ("train", 0), ("gate", 1)])
def test_pods_that_read_pinned_version_mount_claim_read_only(role, mounts):
    world = world_with_version("pvc://archive/orders/orders-1a2b3")
    world.until_job(role)
    (job,) = world.active_jobs()
    pod = job["spec"]["template"]["spec"]
    claims = [
        v["name"] for v in pod["volumes"] if v.get("persistentVolumeClaim", {}).get("claimName") == "archive"
    ]
    found = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] in claims]
    assert [(m["mountPath"], m.get("readOnly")) for m in found] == [
        ("/tunegate/volumes/archive", True)
    ] * mounts


def test_pinned_version_in_a_local_file_is_refused_on_cluster():
    world = world_with_version("file:///models/orders/orders-1a2b3")
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.INVALID_SPEC
    assert failure.message.startswith(
        "EvalGate golden: spec.compareWith[Version].version.uri: pods on a cluster cannot read file://"
    )
    assert world.jobs() == []
