"""Pods that ask the judge model or the guardrail of a gate get the Secrets with the API keys, and the data
pod gets the calibration rows."""

from typing import Any

import pytest

from support import graders
from support.builders import make_config_map, make_gate, make_job
from support.graders import PEOPLE, with_graders
from support.world import Script, World
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.v1alpha2 import EvalGate, FineTuneJob
from tunegate_operator.children.job import PodSettings
from tunegate_operator.finetunejob.build import child_job
from tunegate_operator.names import Step

UID = "0f7c9c1e-0000-4000-8000-000000000001"


def with_secret(grader: dict[str, Any], name: str) -> dict[str, Any]:
    return grader | {"endpoint": grader["endpoint"] | {"secretName": name}}


JUDGE = with_secret(graders.JUDGE, "judge-key")
GUARDRAIL = with_secret(graders.GUARDRAIL, "guard-key")
OF_SAFETY = with_secret(
    graders.safety_judge({"url": "https://safety.internal/v1", "model": "judge"}), "safety-key"
)
SAFETY: dict[str, Any] = {"source": {"builtin": "refusals-v1"}, "grader": OF_SAFETY["name"]}
ON_A_VOLUME = {"uri": "pvc://scored/rows.jsonl", "secretName": "rows-key"}


def volumes_of(role: str, scored: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the volumes of the pods of a role in a job whose gate has all servers."""
    world = World(Script(safety=("p" * 256, "p" * 256)))
    gate = make_gate().with_safety(**SAFETY).obj()
    people = PEOPLE | {"source": scored}
    gate["spec"] = with_graders(gate["spec"], JUDGE, GUARDRAIL, OF_SAFETY, people=people)
    world.apply(make_config_map("scored", scored__jsonl="{}"))
    world.apply_all(make_job().with_spec(publish=[{"uri": "pvc://models/orders"}]).obj(), gate=gate)
    world.until_job(role)
    (job,) = world.active_jobs()
    volumes: list[dict[str, Any]] = job["spec"]["template"]["spec"]["volumes"]
    return volumes


@pytest.mark.parametrize(
    ("role", "secrets"),
    [
        ("data", {"judge-key", "guard-key", "safety-key", "rows-key"}),
        ("train", {"judge-key", "guard-key", "safety-key"}),
        ("gate", {"judge-key", "guard-key", "safety-key"}),
        ("publish", set()),
    ],
)
def test_pods_mount_the_secrets_of_the_servers_that_they_ask(role, secrets):
    found = {v["secret"]["secretName"] for v in volumes_of(role, ON_A_VOLUME) if "secret" in v}
    assert found == secrets


def asked(endpoint: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Endpoint", "endpoint": endpoint}


def test_secrets_of_a_gate_in_a_dry_run_are_optional():
    world = World()
    world.apply(
        make_gate("rehearsal")
        .with_spec(compareWith=[asked(GUARDRAIL["endpoint"])], enforcement="DryRun")
        .obj()
    )
    gate = make_gate().with_spec(compareWith=[asked(JUDGE["endpoint"])]).obj()
    world.apply_all(make_job().with_gates("golden", "rehearsal").obj(), gate)
    world.until_job("data")
    (job,) = world.active_jobs()
    volumes = job["spec"]["template"]["spec"]["volumes"]
    found = {v["secret"]["secretName"]: v["secret"].get("optional") for v in volumes if "secret" in v}
    assert found == {"judge-key": None, "guard-key": True}


def test_only_the_data_pod_mounts_the_calibration_claim():
    def claims(role: str) -> set[str]:
        claims = [
            v["persistentVolumeClaim"] for v in volumes_of(role, ON_A_VOLUME) if "persistentVolumeClaim" in v
        ]
        return {claim["claimName"] for claim in claims}

    assert "scored" in claims("data")
    assert "scored" not in claims("train") | claims("gate")


def test_only_the_data_pod_mounts_the_calibration_config_map():
    def config_maps(role: str) -> set[str]:
        return {v["configMap"]["name"] for v in volumes_of(role, {"configMap": "scored"}) if "configMap" in v}

    assert "scored" in config_maps("data")
    assert "scored" not in config_maps("train") | config_maps("gate")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step(Role.DATA), {"first-key", "second-key", "final-key"}),
        # The first stage also evaluates the base model for the gates of other stages.
        (Step(Role.TRAIN, "sft"), {"first-key", "second-key", "final-key"}),
        (Step(Role.TRAIN, "more"), {"second-key"}),
        (Step(Role.GATE), {"final-key"}),
        (Step(Role.PUBLISH), set()),
    ],
)
def test_pods_mount_only_the_secrets_of_gates_that_they_evaluate(step, expected):
    stages = [
        {"name": "sft", "method": "SFT", "gates": [{"name": "first"}]},
        {"name": "more", "method": "SFT", "gates": [{"name": "second"}]},
    ]
    obj = make_job().with_gates("final").with_spec(stages=stages).obj()
    obj["metadata"]["uid"] = UID
    job = FineTuneJob.model_validate(obj)
    gates = []
    for name in ("first", "second", "final"):
        guardrail = with_secret(GUARDRAIL, f"{name}-key")
        gate = EvalGate.model_validate(make_gate(name).with_spec(graders=[guardrail]).obj())
        gates.append(GateRequest(name=name, spec=gate.spec, golden_sha256="a" * 64))
    request = Request(name="orders", namespace="default", uid=UID, spec=job.spec, gates=gates)
    child = child_job(job, request, step, 1, pods=PodSettings("trainer:test", None))
    volumes = child["spec"]["template"]["spec"]["volumes"]
    assert {v["secret"]["secretName"] for v in volumes if "secret" in v} == expected
