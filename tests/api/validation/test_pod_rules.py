"""Which settings of ``spec.podTemplate`` are refused."""

from pathlib import Path
from typing import Any

import pytest

from support.manifests import changed, finetunejob, problem_messages
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.environment import ALLOWED, pods_of
from tunegate_api.v1alpha2.pods import ADD_ON_LABELS
from tunegate_operator.children.job import PodSettings, ReportTo
from tunegate_operator.finetunejob.build import child_job
from tunegate_operator.names import Step

POD = "spec.podTemplate"
OWNED = "is set by the operator or the cluster: leave it out"
TYPES = "give one of configMap, secret, persistentVolumeClaim, emptyDir, ephemeral, csi beside the name"


@pytest.mark.parametrize("type", ["hostPath", "projected"])
def test_host_path_and_projected_volumes_are_unknown_fields(type: str) -> None:
    problems = problem_messages(
        changed(finetunejob(), {f"{POD}.volumes": [{"name": "certificates", type: {}}]})
    )
    assert any(p.startswith(f"{POD}.volumes[0].{type}: unknown field") for p in problems), problems


@pytest.mark.parametrize("role", Role)
def test_users_cannot_use_volume_and_variable_names_of_the_operator(role: Role) -> None:
    manifest: dict[str, Any] = finetunejob()
    manifest["metadata"] |= {"uid": "0f7c9c1e"}
    manifest["spec"]["model"] = {"uri": "pvc://models/a"}
    job = FineTuneJob.model_validate(manifest)
    request = Request(name="orders", namespace="default", uid="0f7c9c1e", spec=job.spec, gates=[])
    pods = PodSettings("trainer", ReportTo("https://tunegate", "PEM"))
    template = child_job(job, request, Step(role), 1, pods=pods)["spec"]["template"]["spec"]
    ours = [volume["name"] for volume in template["volumes"] if volume["name"] != "certificates"]
    volumes = [{"name": name, "emptyDir": {}} for name in ours]
    problems = problem_messages(changed(manifest, {f"{POD}.volumes": volumes, f"{POD}.volumeMounts": []}))
    assert len(problems) == len(ours)
    variables = [v["name"] for v in template["containers"][0]["env"] if v["name"] != "HTTPS_PROXY"]
    env = [{"name": name, "value": "x"} for name in variables]
    assert len(problem_messages(changed(manifest, {f"{POD}.env": env}))) == len(variables)


SECURITY = Path(__file__).parents[3] / "docs" / "security.md"


@pytest.mark.parametrize(
    "key",
    [
        *("app", "team", "app.kubernetes.io/name", "app.kubernetes.io/managed-by", "example.com/app"),
        *("tunegate.dev/job", "xlabels.tunegate.dev/team", "istio.io/revision", "azure/use"),
    ],
)
def test_label_that_a_selector_could_match_is_refused(key: str) -> None:
    (problem,) = problem_messages(changed(finetunejob(), {f"{POD}.labels": {key: "x"}}))
    assert problem.startswith(f"{POD}.labels.{key}: ")
    assert "use a key that begins with labels.tunegate.dev/" in problem


def test_own_labels_and_labels_of_add_ons_are_accepted() -> None:
    labels = dict.fromkeys(("labels.tunegate.dev/cost-center", *ADD_ON_LABELS), "x")
    assert problem_messages(changed(finetunejob(), {f"{POD}.labels": labels})) == []


def test_every_allowed_label_is_documented() -> None:
    page = SECURITY.read_text(encoding="utf-8")
    assert [key for key in ADD_ON_LABELS if f"`{key}`" not in page] == []


DANGEROUS = (
    *("LD_PRELOAD", "PYTHONPATH", "PATH", "HOME", "BASH_ENV", "GCONV_PATH", "OPENSSL_CONF", "GLIBC_TUNABLES"),
    *("GIT_SSH_COMMAND", "SSLKEYLOGFILE", "NVIDIA_VISIBLE_DEVICES", "CUDA_INJECTION64_PATH", "HF_HOME"),
    *("HF_HUB_OFFLINE", "HF_DATASETS_TRUST_REMOTE_CODE", "AWS_CONFIG_FILE", "AWS_PROFILE"),
    *("AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    *("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ROLE_ARN", "AWS_STS_REGIONAL_ENDPOINTS"),
    *("NCCL_NET_PLUGIN", "NCCL_TUNER_PLUGIN", "NCCL_PROFILER_PLUGIN", "NCCL_CONF_FILE", "NCCL_DEBUG_FILE"),
    *("NCCL_TOPO_DUMP_FILE", "OTEL_PYTHON_CONFIGURATOR", "OTEL_TRACES_EXPORTER", "MLFLOW_TRACKING_AUTH"),
    *("WANDB_X_EXECUTABLE", "WANDB_IDENTITY_TOKEN_FILE", "TUNEGATE_ROOT", "KUBEFLOW_TRAINER_SERVER_URL"),
    *("OMP_NUM_THREADS", "https_Proxy", "MY_HTTPS_PROXY", "HTTPS_PROXY2", "USER", "USER_", "MY_USER_X", "A"),
)


@pytest.mark.parametrize("name", DANGEROUS)
def test_variable_that_is_not_allowed_is_refused_with_advice(name: str) -> None:
    problems = problem_messages(changed(finetunejob(), {f"{POD}.env": [{"name": name, "value": "/mnt/x"}]}))
    (problem,) = problems
    assert problem.startswith(f'{POD}.env[0].name: is "{name}": must be a variable that docs/api/')
    assert "set others in the trainer image" in problem


def test_every_allowed_variable_is_accepted() -> None:
    names = [name for group in ALLOWED for name in group.names]
    assert len(names) == len(set(names))
    for name in (*names, "USER_PROMPT_STYLE"):
        assert problem_messages(changed(finetunejob(), {f"{POD}.env": [{"name": name, "value": "x"}]})) == []
        assert set(pods_of(name)) <= set(Role)


def test_every_allowed_environment_variable_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "api" / "finetunejob.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for group in ALLOWED for name in group.names)
