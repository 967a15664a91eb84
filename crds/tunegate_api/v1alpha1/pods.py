"""What a FineTuneJob says of its pods: what they ask for, and what a user may set on them."""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Name
from tunegate_api.v1alpha1.environment import ALLOWED_PATTERN, ALLOWED_WORDS
from tunegate_api.v1alpha1.values import Form

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"

Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)]

_SUFFIXES = {"m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGT", start=1)
}


def quantity_value(quantity: Quantity) -> Fraction:
    """The exact number that a quantity of Kubernetes stands for: ``24Gi`` is 24 x 2^30."""
    number = quantity.rstrip("mkMGTKi")
    factor = Fraction(_SUFFIXES.get(quantity[len(number) :], 1))
    return Fraction(number) * factor


OWNED_KEYS = r"^(.*\.)?(tunegate\.dev|kueue\.x-k8s\.io|batch\.kubernetes\.io)/|^job-name$|^controller-uid$"
"""Labels and annotations by which the operator, the Job controller and Kueue find their pods."""
OWNED_LABELS = rf"{OWNED_KEYS}|^app\.kubernetes\.io/managed-by$"
CONFINEMENT_KEYS = r"^container\.apparmor\.security\.beta\.kubernetes\.io/"
"""Annotations that weaken how the container runtime confines a pod."""
MOUNTS = "/mnt"
"""Below it a user's volumes are mounted, where they hide nothing of the image."""

VariableName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Form(ALLOWED_PATTERN, ALLOWED_WORDS),
]
"""Who may create a FineTuneJob gets pods by the operator's rights: nothing may forge a result there."""
PriorityClassName = Annotated[
    Name,
    Form("^system-", "must be no priority class of the system: choose one of your own", never=True),
]
VolumeName = Annotated[
    Name,
    Form(
        "^(request|plan|report|workspace|tmp|shared-memory|(input|volume|secret)-[0-9]+)$|^tunegate-",
        "must be none of the operator's volumes: choose another name",
        never=True,
    ),
]
MountPath = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Form(f"^{MOUNTS}/+[^/]", f"must be a folder below {MOUNTS}, where it hides nothing"),
    Form(r"/\.\.(/|$)", f'must be a folder below {MOUNTS}, without ".."', never=True),
]


class Gpu(ApiModel):
    """The GPUs of a training pod."""

    count: Annotated[int, Field(ge=1, le=64, examples=[2])] = 1
    """GPUs per node."""
    memory: Annotated[Quantity | None, Field(examples=["24G"])] = None
    """Memory of one GPU: of a card that is sold with 24 GB, 24G. A stage that cannot fit it, by an estimate,
    is refused before a GPU is asked for; of one that can, as many examples are a forward pass as fit."""


class Resources(ApiModel):
    """What a training pod asks for."""

    accelerator: Literal["GPU", "CPU"] = "GPU"
    """CPU: train without a GPU, as small examples do."""
    gpu: Gpu | None = None
    """The GPUs, when the accelerator is GPU. Left out: one."""
    cpu: Annotated[Quantity | None, Field(examples=["4"])] = None
    """CPU cores to request; with accelerator: CPU also the limit, and the number of threads. Left out: none
    are requested, and PyTorch starts a thread for each core of the node."""
    memory: Annotated[Quantity | None, Field(examples=["48Gi"])] = None
    """Host memory, as request and limit. Left out: no limit."""
    nodes: Annotated[int, Field(ge=1, le=1024, examples=[2])] = 1
    """Pods that train together, with the GPUs or cores above each. More than one needs a ReadWriteMany
    volume, or machines that share it in another way."""

    @property
    def processes_per_node(self) -> int:
        """One a GPU; without GPUs one, which uses all cores."""
        return self.gpu.count if self.gpu and self.accelerator == "GPU" else 1

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.nodes * self.processes_per_node


class SecretReference(ApiModel):
    """A Secret to use."""

    name: Annotated[Name, Field(examples=["registry-login"])]
    """A Secret of this namespace."""


class EnvVar(ApiModel):
    """An environment variable, as in a Pod."""

    name: Annotated[VariableName, Field(examples=["HTTPS_PROXY"])]
    """Its name."""
    value: Annotated[str | None, Field(max_length=4096, examples=["http://proxy.internal:3128"])] = None
    """Its value."""
    value_from: dict[str, Any] | None = None
    """Where its value comes from, as in a Pod: a Secret, say."""


class Volume(ApiModel):
    """A volume, as in a Pod, of a type that Pod Security "restricted" takes. Exactly one type is given."""

    name: Annotated[VolumeName, Field(examples=["certificates"])]
    """Its name, to mount it by."""
    config_map: Annotated[dict[str, Any] | None, Field(examples=[{"name": "ca"}])] = None
    """A ConfigMap of this namespace."""
    secret: dict[str, Any] | None = None
    """A Secret of this namespace."""
    persistent_volume_claim: dict[str, Any] | None = None
    """A PersistentVolumeClaim of this namespace."""
    empty_dir: dict[str, Any] | None = None
    """A folder that goes with the pod."""
    ephemeral: dict[str, Any] | None = None
    """A volume that is claimed for the pod and goes with it."""
    csi: dict[str, Any] | None = None
    """A volume of a CSI driver."""


class VolumeMount(ApiModel):
    """Where a volume is mounted, as in a Pod."""

    name: Annotated[Name, Field(examples=["certificates"])]
    """One of `volumes`."""
    mount_path: Annotated[MountPath, Field(examples=["/mnt/certificates"])]
    """A folder below /mnt."""
    sub_path: Annotated[str | None, Field(max_length=1024)] = None
    """The folder of the volume to mount. Left out: its root."""
    read_only: bool | None = None
    """Whether nothing can be written there."""


class PodTemplate(ApiModel):
    """What a user may set on the pods. The operator owns the rest."""

    labels: Annotated[dict[str, str], Field(max_length=32)] | None = None
    """Labels to add to the pods. Those of the operator, of Jobs and of Kueue are refused."""
    annotations: Annotated[dict[str, str], Field(max_length=32)] | None = None
    """Annotations to add to the pods. Those of the operator, of Jobs, of Kueue and of AppArmor are
    refused."""
    node_selector: Annotated[dict[str, str] | None, Field(max_length=32, examples=[{"gpu": "l4"}])] = None
    """Labels that a node must have."""
    tolerations: Annotated[
        list[dict[str, Any]] | None, Field(max_length=32, examples=[[{"key": "gpu", "operator": "Exists"}]])
    ] = None
    """Taints that the pods tolerate, as in a Pod."""
    affinity: dict[str, Any] | None = None
    """Which nodes and neighbours the pods prefer, as in a Pod."""
    priority_class_name: Annotated[PriorityClassName | None, Field(examples=["batch-low"])] = None
    """The PriorityClass of the pods. Those that begin with system- are refused."""
    service_account_name: Annotated[Name | None, Field(examples=["tuning"])] = None
    """The ServiceAccount of the pods. Its API token is not mounted."""
    image_pull_secrets: Annotated[list[SecretReference] | None, Field(max_length=8)] = None
    """Secrets to pull the trainer image with."""
    env: Annotated[list[EnvVar], Field(max_length=64)] | None = None
    """Environment variables, as in a Pod; credentials come from Secrets. Proxies, certificates, values of
    AWS_, HF_, MLFLOW_, NCCL_, OTEL_ and WANDB_, and variables that begin with USER_:
    docs/api/finetunejob.md lists them, and the pods that get each."""
    volumes: Annotated[list[Volume], Field(max_length=16)] | None = None
    """More volumes, as in a Pod."""
    volume_mounts: Annotated[list[VolumeMount], Field(max_length=16)] | None = None
    """Where to mount `volumes` in the trainer container, below /mnt."""
    shared_memory: Annotated[Quantity | None, Field(examples=["8Gi"])] = None
    """Size of /dev/shm, which data loaders and several GPUs use. It counts as memory of the pod. Left out:
    what the container runtime gives, often 64Mi."""
    termination_grace_period_seconds: Annotated[int | None, Field(ge=0, le=3600, examples=[300])] = None
    """Seconds that a pod gets to save after it was asked to stop, which it does after its optimizer step.
    Left out: 120, and for each trained weight 24 bytes at 100 MB/s."""
