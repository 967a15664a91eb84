"""Pods that ask the judge model or the guardrail of a gate get the Secrets with the API keys, and the data
pod gets the calibration rows."""

from typing import Any

import pytest

from support.builders import make_config_map, make_gate, make_job
from support.world import World

JUDGE: dict[str, Any] = {
    "endpoint": {"url": "https://judge.internal/v1", "model": "judge", "secretName": "judge-key"},
    "calibration": {
        "source": {"uri": "pvc://scored/rows.jsonl", "secretName": "rows-key"},
        "minRecall": "0.7",
        "minSpecificity": "0.8",
    },
}
GUARDRAIL = {
    "endpoint": {"url": "https://guard.internal/v1", "model": "guard", "secretName": "guard-key"},
    "protocol": "LlamaGuard",
}


def volumes_of(role: str, judge: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the volumes of the pods of a role in a job whose gate has both servers."""
    world = World()
    gate = make_gate().with_spec(judge=judge, guardrail=GUARDRAIL).obj()
    world.apply(make_config_map("scored", scored__jsonl="{}"))
    world.apply_all(make_job().with_spec(publish=[{"uri": "pvc://models/orders"}]).obj(), gate=gate)
    world.until_job(role)
    (job,) = world.active_jobs()
    volumes: list[dict[str, Any]] = job["spec"]["template"]["spec"]["volumes"]
    return volumes


@pytest.mark.parametrize(
    ("role", "secrets"),
    [
        ("data", {"judge-key", "guard-key", "rows-key"}),
        ("train", {"judge-key", "guard-key"}),
        ("gate", {"judge-key", "guard-key"}),
        ("publish", set()),
    ],
)
def test_pods_mount_the_secrets_of_the_servers_that_they_ask(role, secrets):
    found = {v["secret"]["secretName"] for v in volumes_of(role, JUDGE) if "secret" in v}
    assert found == secrets


def test_only_the_data_pod_mounts_the_claim_of_the_calibration_rows():
    def claims(role: str) -> set[str]:
        claims = [v["persistentVolumeClaim"] for v in volumes_of(role, JUDGE) if "persistentVolumeClaim" in v]
        return {claim["claimName"] for claim in claims}

    assert "scored" in claims("data")
    assert "scored" not in claims("train") | claims("gate")


def test_config_map_with_calibration_rows_is_mounted():
    judge = JUDGE | {"calibration": JUDGE["calibration"] | {"source": {"configMap": "scored"}}}
    names = {v["configMap"]["name"] for v in volumes_of("data", judge) if "configMap" in v}
    assert "scored" in names
