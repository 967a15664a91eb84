"""The specs of pods have the security settings of the operator and the settings of ``spec.podTemplate``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from support.builders import make_gate, make_job
from support.manifests import changed, finetunejob
from support.model_shapes import QWEN_7B
from support.world import World, plan_for
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.v1alpha2 import EvalGate, FineTuneJob
from tunegate_api.validation.problems import find_problems
from tunegate_operator.children.job import JobOwner, PodNeeds, PodSettings, ReportTo, build_job
from tunegate_operator.children.volumes import PodVolumes
from tunegate_operator.engine.cluster import Object
from tunegate_operator.finetunejob.build import child_job
from tunegate_operator.names import Step

PODS = PodSettings("trainer:test", ReportTo("https://tunegate.default:443", "PEM"))
UID = "0f7c9c1e-0000-4000-8000-000000000001"
LOCAL_ADDRESSES = {"name": "TUNEGATE_LOCAL_ADDRESSES", "value": ""}
"""The variable with which a pod refuses connections to all loopback and link-local addresses."""


def template_of(role: Role, *, gates: Sequence[GateRequest] = (), **spec: Any) -> Object:
    """Return the pod template in a job's child Job of this role. The request has ``gates``."""
    obj = make_job().with_spec(**spec).obj()
    obj["metadata"]["uid"] = UID
    job = FineTuneJob.model_validate(obj)
    request = Request(name="orders", namespace="default", uid=UID, spec=job.spec, gates=list(gates))
    child = child_job(job, request, Step(role), 1, pods=PODS)
    template: Object = child["spec"]["template"]
    return template


def container(template: Object) -> Object:
    (only,) = template["spec"]["containers"]
    return dict(only)


@pytest.mark.parametrize(
    ("role", "adapter", "parameters", "shape", "seconds"),
    [
        (Role.TRAIN, "LoRA", 7_000_000_000, None, 120),
        (Role.TRAIN, "LoRA", 7_000_000_000, QWEN_7B, 120 + 9),  # 40 million weights of rank 16
        (Role.TRAIN, "None", 1000, None, 120),
        (Role.TRAIN, "None", 7_000_000_000, QWEN_7B, 120 + 1680),  # 84 GB, twice
        (Role.GATE, "None", 7_000_000_000, QWEN_7B, 120),
    ],
)
def test_grace_period_grows_with_the_trained_weights(role, adapter, parameters, shape, seconds):
    obj = make_job().obj()
    obj["metadata"]["uid"] = UID
    job = FineTuneJob.model_validate(obj)
    request = Request(name="orders", namespace="default", uid=UID, spec=job.spec, gates=[])
    plan = plan_for(UID)
    (stage,) = plan.stages
    trained = stage.parameters.model_copy(update={"adapter": adapter})
    plan = plan.model_copy(
        update={
            "stages": [stage.model_copy(update={"parameters": trained})],
            "model": plan.model.model_copy(update={"parameters": parameters, "shape": shape}),
        }
    )
    step = Step(role, stage.name if role is Role.TRAIN else None)
    child = child_job(job, request, step, 1, pods=PODS, plan=plan)
    assert child["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize(
    ("role", "seconds"),
    [
        (Role.REPORT, 7200 + 600),
        (Role.CLEANUP, 3600),
        (Role.TRACK, 600),
        (Role.TRAIN, None),
    ],
)
def test_deadline_of_a_report_job_includes_the_start_timeout(role: Role, seconds: int | None):
    obj = make_job().with_spec(startTimeoutSeconds=7200).obj()
    obj["metadata"]["uid"] = UID
    job = FineTuneJob.model_validate(obj)
    request = Request(name="orders", namespace="default", uid=UID, spec=job.spec, gates=[])
    stage = job.spec.stages[0].name if role is Role.TRAIN else None
    child = child_job(job, request, Step(role, stage), 1, pods=PODS, plan=plan_for(UID))
    assert child["spec"].get("activeDeadlineSeconds") == seconds


@pytest.mark.parametrize("role", Role)
def test_every_pod_is_hardened_with_any_pod_template(role: Role):
    for wanted in (None, finetunejob()["spec"]["podTemplate"]):
        template = template_of(role, podTemplate=wanted)
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container(template)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPath" in volume for volume in spec["volumes"])
        assert {"name": "tmp", "emptyDir": {"sizeLimit": "10Gi"}} in spec["volumes"]
        assert template["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tunegate"


@pytest.mark.parametrize("role", [role for role in Role if not role.is_chore])
def test_pod_template_is_applied_to_every_pod(role: Role):
    wanted = finetunejob()["spec"]["podTemplate"]
    template = template_of(role, podTemplate=wanted)
    metadata, spec = template["metadata"], template["spec"]
    assert metadata["labels"]["labels.tunegate.dev/team"] == "orders"
    assert metadata["labels"]["tunegate.dev/job"] == "orders"
    assert metadata["annotations"] == {"example.com/cost": "low"}
    for field in (
        "nodeSelector",
        "tolerations",
        "affinity",
        "priorityClassName",
        "serviceAccountName",
        "imagePullSecrets",
        "terminationGracePeriodSeconds",
    ):
        assert spec[field] == wanted[field], field
    assert wanted["env"][0] in container(template)["env"]
    assert wanted["volumes"][0] in spec["volumes"]
    assert wanted["volumeMounts"][0] in container(template)["volumeMounts"]
    memory = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert memory in spec["volumes"]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container(template)["volumeMounts"]


WANTED = {
    "HTTPS_PROXY": "http://proxy:3128",
    "SSL_CERT_FILE": "/mnt/ca/ca.pem",
    "WANDB_MODE": "offline",
    "WANDB_TAGS": "orders",
    "HF_TOKEN": "hf_x",
    "AWS_ENDPOINT_URL_S3": "https://minio",
    "OTEL_SERVICE_NAME": "orders",
    "NCCL_DEBUG": "INFO",
    "USER_STYLE": "short",
    "OPENSSL_CONF": "/mnt/x",
}
OF_EVERY_POD = {"HTTPS_PROXY", "SSL_CERT_FILE", "WANDB_MODE"}


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (
            Role.DATA,
            OF_EVERY_POD
            | {"HF_TOKEN", "AWS_ENDPOINT_URL_S3", "OTEL_SERVICE_NAME", "USER_STYLE", "WANDB_TAGS"},
        ),
        (Role.TRAIN, WANTED.keys() - {"OPENSSL_CONF"}),
        (Role.GATE, OF_EVERY_POD),
        (Role.PUBLISH, OF_EVERY_POD | {"HF_TOKEN", "AWS_ENDPOINT_URL_S3"}),
        (Role.TRACK, OF_EVERY_POD | {"WANDB_TAGS"}),
        (Role.REPORT, set()),
        (Role.CLEANUP, set()),
    ],
)
def test_pod_gets_only_the_variables_of_its_role(role: Role, names: set[str]):
    """The last variable is refused in a spec, so no pod gets it."""
    env = [{"name": name, "value": value} for name, value in WANTED.items()]
    found = container(template_of(role, podTemplate={"env": env}))["env"]
    users = {v["name"]: v["value"] for v in found if not v["name"].startswith("TUNEGATE_")}
    assert users == {name: WANTED[name] for name in names}


def test_cleanup_pod_keeps_node_selector_but_no_user_volumes():
    wanted = finetunejob()["spec"]["podTemplate"]
    spec = template_of(Role.CLEANUP, podTemplate=wanted)["spec"]
    assert spec["nodeSelector"] == wanted["nodeSelector"]
    assert {volume["name"] for volume in spec["volumes"]} == {"request", "workspace", "tmp"}
    assert spec["containers"][0]["env"] == [LOCAL_ADDRESSES]


def test_track_pod_is_small_and_has_the_tracker_variables():
    wanted = finetunejob()["spec"]["podTemplate"]
    template = template_of(Role.TRACK, podTemplate=wanted, resources={"accelerator": "GPU", "cpu": "8"})
    assert [LOCAL_ADDRESSES, *wanted["env"]] == container(template)["env"], (
        "a proxy or an address, and no report address"
    )
    assert wanted["volumes"][0] in template["spec"]["volumes"], "a certificate"
    assert container(template)["resources"]["limits"] == {"memory": "1Gi"}


def test_pod_without_a_pod_template_has_no_extra_fields():
    template = template_of(Role.TRAIN)
    assert template["metadata"].keys() == {"labels"}
    assert "nodeSelector" not in template["spec"]
    assert template["spec"]["terminationGracePeriodSeconds"] == 120
    names = [variable["name"] for variable in container(template)["env"]]
    assert names == ["TUNEGATE_REPORT_URL", "TUNEGATE_REPORT_CA", "TUNEGATE_LOCAL_ADDRESSES"]


def test_pod_gets_the_local_addresses_that_an_administrator_allows():
    owner = JobOwner("FineTuneJob", "orders", "default", UID, {})
    needs = PodNeeds("trainer:test", PodVolumes())

    def variables(pods: PodSettings) -> list[Object]:
        job = build_job(owner, Step(Role.DATA), 1, needs, pods)
        found: list[Object] = job["spec"]["template"]["spec"]["containers"][0]["env"]
        return found

    allowed = replace(PODS, allowed_local_addresses=("169.254.20.10/32", "::1/128"))
    assert variables(allowed) == [LOCAL_ADDRESSES | {"value": "169.254.20.10/32,::1/128"}]
    assert variables(replace(allowed, on_one_machine=True)) == [], "on a laptop, local servers are normal"


def test_cpu_training_sets_threads_to_the_cpu_limit():
    template = template_of(Role.TRAIN, resources={"accelerator": "CPU", "cpu": "1500m", "memory": "2Gi"})
    limits = {"cpu": "1500m", "memory": "2Gi"}
    assert container(template)["resources"] == {"limits": limits, "requests": limits}
    source = {"containerName": "trainer", "resource": "limits.cpu", "divisor": "1"}
    variable = {"name": "OMP_NUM_THREADS", "valueFrom": {"resourceFieldRef": source}}
    assert variable in container(template)["env"]


def test_only_roles_that_run_a_model_request_a_gpu():
    asked = {"accelerator": "GPU", "cpu": "8", "memory": "32Gi", "gpu": {"count": 1}}
    expected = {
        Role.DATA: {},
        Role.TRAIN: {"nvidia.com/gpu": "1"},
        Role.GATE: {"nvidia.com/gpu": "1"},
        Role.PUBLISH: {},
    }
    for role, gpus in expected.items():
        found = container(template_of(role, resources=asked))
        assert found["resources"]["limits"] == {"memory": "32Gi"} | gpus, role
        assert found["resources"]["requests"] == {"memory": "32Gi", "cpu": "8"}
        names = [variable["name"] for variable in found["env"]]
        assert "OMP_NUM_THREADS" not in names, "data loaders may use idle cores"


CREDENTIALS = {
    "model": {"uri": "hf://team/base", "secretName": "hub"},
    "data": {
        "goal": "StyleOrFormat",
        "sources": [
            {"name": "train", "uri": "s3://rows/train.jsonl", "secretName": "bucket"},
            {
                "name": "chats",
                "use": "Mix",
                "uri": "hf://datasets/team/chats/rows.parquet",
                "secretName": "chats",
            },
            {
                "name": "preference",
                "use": "Preference",
                "uri": "s3://rows/pairs.jsonl",
                "secretName": "bucket",
            },
            {
                "name": "production",
                "use": "Production",
                "uri": "s3://logs/requests.jsonl",
                "secretName": "logs",
            },
        ],
    },
    "publish": [{"uri": "pvc://models/orders"}],
}


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (Role.DATA, {"bucket", "chats", "hub", "logs"}),
        (Role.PUBLISH, set()),
        (Role.TRAIN, set()),
    ],
)
def test_pod_gets_only_the_secrets_of_its_role(role: Role, names: set[str]):
    template = template_of(role, **CREDENTIALS)
    secrets = {v["name"]: v["secret"] for v in template["spec"]["volumes"] if "secret" in v}
    mounts = {m["name"]: m for m in container(template)["volumeMounts"]}
    seen = {mounts[name]["mountPath"]: secret["secretName"] for name, secret in secrets.items()}
    assert seen == {f"/tunegate/secrets/{name}": name for name in names}
    assert all(mounts[name]["readOnly"] for name in secrets)
    assert all(secret["defaultMode"] == 0o440 for secret in secrets.values())
    assert not any(secret.get("optional") for secret in secrets.values()), (
        "with optional, the pod would start without them"
    )


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", ["golden", "safety"])
def test_only_the_data_pod_gets_case_set_claims_and_secrets(role: Role, kind: str):
    gates = []
    for name, source in {
        "on-a-volume": {"uri": "pvc://sets/cases.jsonl"},
        "in-a-bucket": {"uri": "s3://sets/cases.jsonl", "secretName": "set-key"},
    }.items():
        made, pinned = make_gate(name), {"source": source, "sha256": "a" * 64}
        (made.with_golden if kind == "golden" else made.with_safety)(**pinned)
        gate = EvalGate.model_validate(made.obj())
        gates.append(GateRequest(name=name, spec=gate.spec, golden_sha256="a" * 64, safety_sha256="a" * 64))
    template = template_of(role, gates=gates)
    claims = {v.get("persistentVolumeClaim", {}).get("claimName") for v in template["spec"]["volumes"]}
    secrets = {v.get("secret", {}).get("secretName") for v in template["spec"]["volumes"]}
    assert ("sets" in claims, "set-key" in secrets) == (role is Role.DATA,) * 2
    if role is Role.DATA:
        mounts = {mount["mountPath"]: mount for mount in container(template)["volumeMounts"]}
        assert mounts["/tunegate/volumes/sets"]["readOnly"] is True


@pytest.mark.parametrize("role", Role)
def test_every_role_that_sends_metrics_gets_the_tracker_secrets(role: Role):
    mlflow = {"uri": "http://mlflow.internal", "experiment": "orders", "secretName": "mlflow-token"}
    wandb = {"project": "orders", "secretName": "wandb-key"}
    template = template_of(role, tracking={"mlflow": mlflow, "wandb": wandb})
    names = {v["secret"]["secretName"] for v in template["spec"]["volumes"] if "secret" in v}
    gets_secrets = role not in (Role.REPORT, Role.CLEANUP)
    assert names == ({"mlflow-token", "wandb-key"} if gets_secrets else set()), role


@pytest.mark.parametrize("role", Role)
def test_user_volume_named_like_an_operator_volume_is_refused(role: Role):
    for volume in template_of(role, **CREDENTIALS)["spec"]["volumes"]:
        problems = find_problems(changed(finetunejob(), {"spec.podTemplate.volumes": [volume]}))
        assert any("must not be a volume of the operator" in str(p) for p in problems), volume["name"]


def test_job_with_a_full_pod_template_succeeds():
    world = World()
    world.apply_all(make_job().with_spec(podTemplate=finetunejob()["spec"]["podTemplate"]).obj())
    assert world.run().phase == "Succeeded"
