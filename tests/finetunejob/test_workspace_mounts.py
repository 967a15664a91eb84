"""Which folders of the storage claim each pod mounts, and which of them it can write."""

from typing import Any

import pytest

from support.builders import make_job
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_operator.engine.cluster import Object
from tunegate_operator.finetunejob.volumes import pod_volumes
from tunegate_operator.names import Step

UID = "0f7c9c1e-0000-4000-8000-000000000001"
OWN = f"tunegate/jobs/{UID}"


def mounts_of(role: Role, **spec: Any) -> list[Object]:
    """Return the mounts of the claims of a pod, in their order."""
    obj = make_job().with_spec(**spec).obj()
    obj["metadata"]["uid"] = UID
    job = FineTuneJob.model_validate(obj)
    request = Request(name="orders", namespace="default", uid=UID, spec=job.spec, gates=[])
    found = pod_volumes(job, request, Step(role), reports=False, secrets_needed=False)
    claims = {v["name"] for v in found.volumes if "persistentVolumeClaim" in v}
    return [mount for mount in found.mounts if mount["name"] in claims]


@pytest.mark.parametrize(
    ("role", "writes", "reads"),
    [
        (Role.TRAIN, {OWN, "tunegate/baselines"}, {"tunegate/models"}),
        (Role.GATE, {OWN, "tunegate/baselines"}, {"tunegate/models"}),
        (Role.PUBLISH, {OWN}, set()),
        (Role.TRACK, {OWN}, set()),
        (Role.REPORT, {OWN}, set()),
        (Role.CLEANUP, {OWN}, set()),
    ],
)
def test_pod_mounts_only_the_folders_of_its_job_and_role(role, writes, reads):
    mounts = mounts_of(role)
    assert {m["subPath"] for m in mounts if not m.get("readOnly")} == writes
    assert {m["subPath"] for m in mounts if m.get("readOnly")} == reads
    assert all(m["mountPath"] == f"/tunegate/workspace/{m['subPath']}" for m in mounts)


def test_data_pod_mounts_the_whole_claim_to_create_the_folders():
    (workspace,) = (m for m in mounts_of(Role.DATA) if m["mountPath"].startswith("/tunegate/workspace"))
    assert workspace == {"name": "workspace", "mountPath": "/tunegate/workspace"}


def test_publishing_to_the_storage_claim_keeps_job_files_read_only():
    claim, reserved, own = mounts_of(Role.PUBLISH, publish=[{"uri": "pvc://tuning/orders"}])
    assert claim == {"name": "workspace", "mountPath": "/tunegate/volumes/tuning"}
    assert reserved == {
        "name": "workspace",
        "mountPath": "/tunegate/volumes/tuning/tunegate",
        "subPath": "tunegate",
        "readOnly": True,
    }
    assert own["subPath"] == OWN
