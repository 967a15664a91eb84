"""The types for the pods of a FineTuneJob: their resources, and the settings that a user may add."""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Name, ObjectName
from tunegate_api.v1alpha2.environment import ALLOWED_PATTERN, ALLOWED_WORDS
from tunegate_api.v1alpha2.values import Form

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"

Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)]

_SUFFIXES = {"m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGT", start=1)
}


def quantity_value(quantity: Quantity) -> Fraction:
    """Return the exact value of a Kubernetes quantity: ``24Gi`` is 24 x 2^30."""
    number = quantity.rstrip("mkMGTKi")
    factor = Fraction(_SUFFIXES.get(quantity[len(number) :], 1))
    return Fraction(number) * factor


OWNED_KEYS = r"^(.*\.)?(tunegate\.dev|kueue\.x-k8s\.io|batch\.kubernetes\.io)/|^job-name$|^controller-uid$"
"""Pattern of the annotations that belong to the operator, the Job controller and Kueue. Users may not set
these."""
LABEL_PREFIX = "labels.tunegate.dev/"
"""Prefix of the labels that users may choose freely."""
ADD_ON_LABELS = (
    "admission.datadoghq.com/enabled",
    "azure.workload.identity/use",
    "istio.io/dataplane-mode",
    "istio.io/rev",
    "kuma.io/sidecar-injection",
    "sidecar.istio.io/inject",
    "tags.datadoghq.com/env",
    "tags.datadoghq.com/service",
    "tags.datadoghq.com/version",
)
"""Labels that users may also set, because add-ons of a cluster read them from pods. Other labels are refused:
they could match the selector of a Service or a NetworkPolicy, so that a job's pods would receive the requests
of another workload, or have its network access."""
ALLOWED_LABELS = f"^{LABEL_PREFIX}|^({'|'.join(ADD_ON_LABELS)})$".replace(".", r"\.")
LABELS_MESSAGE = (
    f"a label of a pod could match the selector of a Service or a NetworkPolicy: use a key that begins with "
    f"{LABEL_PREFIX}, or a key of an add-on that docs/security.md lists"
)
CONFINEMENT_KEYS = r"^container\.apparmor\.security\.beta\.kubernetes\.io/"
"""Pattern of the annotations that can disable the AppArmor profile of a container. Users may not set
these."""
MOUNTS = "/mnt"
"""The folder below which users may mount volumes, so that a mount never hides files of the image."""

VariableName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Form(ALLOWED_PATTERN, ALLOWED_WORDS),
]
"""The name of an environment variable that a user may set. Only variables that cannot forge a result are
allowed."""
PriorityClassName = Annotated[
    ObjectName,
    Form("^system-", "must not be a priority class of the system: choose another priority class", never=True),
]
VolumeName = Annotated[
    Name,
    Form(
        "^(request|plan|report|workspace|tmp|shared-memory|(input|volume|secret)-[0-9]+)$|^tunegate-",
        "must not be a volume of the operator: choose another name",
        never=True,
    ),
]
MountPath = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Form(f"^{MOUNTS}/+[^/]", f"must be a folder below {MOUNTS}, where it hides no files of the image"),
    Form(r"/\.\.(/|$)", f'must be a folder below {MOUNTS}, without ".."', never=True),
]


class Gpu(ApiModel):
    """The GPUs of a training pod."""

    count: Annotated[int, Field(ge=1, le=64, examples=[2])] = 1
    """Number of GPUs per node."""
    memory: Annotated[Quantity | None, Field(examples=["24G"])] = None
    """Memory of one GPU, for example 24G for a card with 24 GB. The number of
    tokens per forward pass is chosen so that the estimated memory of each stage fits, and the job fails
    before a GPU is requested if no number fits."""


class Resources(ApiModel):
    """Compute resources of the training pods."""

    accelerator: Literal["GPU", "CPU"] = "GPU"
    """Device to train on. CPU is for small examples."""
    gpu: Gpu | None = None
    """The GPUs of each node, if `accelerator` is GPU. Defaults to one GPU."""
    cpu: Annotated[Quantity | None, Field(examples=["4"])] = None
    """Number of CPU cores to request. If `accelerator` is CPU, it is also the limit and the number of
    threads. If omitted, no cores are requested, and PyTorch starts one thread per core of the node."""
    memory: Annotated[Quantity | None, Field(examples=["48Gi"])] = None
    """Host memory, as both request and limit. If omitted, there is no limit."""
    nodes: Annotated[int, Field(ge=1, le=1024, examples=[2])] = 1
    """Number of pods for distributed training. Each pod requests `gpu`, `cpu` and `memory`. With more than
    one pod, the storage volume must be ReadWriteMany, or another volume that the nodes share."""

    @property
    def processes_per_node(self) -> int:
        """The number of training processes in a pod: one per GPU, or without GPUs a single process that uses
        all cores."""
        return self.gpu.count if self.gpu and self.accelerator == "GPU" else 1

    @property
    def processes(self) -> int:
        """The world size: the number of processes in all pods."""
        return self.nodes * self.processes_per_node


class SecretReference(ApiModel):
    """Reference to a Secret."""

    name: Annotated[ObjectName, Field(examples=["registry-login"])]
    """Name of a Secret in the same namespace."""


class EnvVar(ApiModel):
    """An environment variable, as in a Pod."""

    name: Annotated[VariableName, Field(examples=["HTTPS_PROXY"])]
    """Name of the variable. Only the variables listed in docs/api/finetunejob.md are allowed."""
    value: Annotated[str | None, Field(max_length=4096, examples=["http://proxy.internal:3128"])] = None
    """Value of the variable."""
    value_from: dict[str, Any] | None = None
    """Source of the value, as in a Pod, for example a key of a Secret."""


class Volume(ApiModel):
    """A volume, as in a Pod. Exactly one type of volume must be set. Only types that the Pod Security
    Standard "restricted" allows are supported."""

    name: Annotated[VolumeName, Field(examples=["certificates"])]
    """Name of the volume, for `volumeMounts`."""
    config_map: Annotated[dict[str, Any] | None, Field(examples=[{"name": "ca"}])] = None
    """A ConfigMap in the same namespace, as in a Pod."""
    secret: dict[str, Any] | None = None
    """A Secret in the same namespace, as in a Pod."""
    persistent_volume_claim: dict[str, Any] | None = None
    """A PersistentVolumeClaim in the same namespace, as in a Pod."""
    empty_dir: dict[str, Any] | None = None
    """An empty folder that is deleted with the pod, as in a Pod."""
    ephemeral: dict[str, Any] | None = None
    """A volume that is created for the pod and deleted with it, as in a Pod."""
    csi: dict[str, Any] | None = None
    """A volume of a CSI driver, as in a Pod."""


class VolumeMount(ApiModel):
    """A mount of a volume into the trainer container, as in a Pod."""

    name: Annotated[Name, Field(examples=["certificates"])]
    """Name of one of `volumes`."""
    mount_path: Annotated[MountPath, Field(examples=["/mnt/certificates"])]
    """Folder in the container, below /mnt."""
    sub_path: Annotated[str | None, Field(max_length=1024)] = None
    """Folder in the volume to mount. Defaults to the root of the volume."""
    read_only: bool | None = None
    """If true, the volume is mounted read-only."""


class PodTemplate(ApiModel):
    """Settings that a user may add to the pods. The operator controls all other settings."""

    labels: Annotated[dict[str, str], Field(max_length=32)] | None = None
    """Labels to add to the pods: with keys that begin with labels.tunegate.dev/, or keys that add-ons of a
    cluster read, which docs/security.md lists. Other labels could match the selector of a Service."""
    annotations: Annotated[dict[str, str], Field(max_length=32)] | None = None
    """Annotations to add to the pods. Annotations of the operator, of Jobs, of Kueue and of AppArmor are
    refused."""
    node_selector: Annotated[dict[str, str] | None, Field(max_length=32, examples=[{"gpu": "l4"}])] = None
    """Labels that a node must have to run the pods, as in a Pod."""
    tolerations: Annotated[
        list[dict[str, Any]] | None, Field(max_length=32, examples=[[{"key": "gpu", "operator": "Exists"}]])
    ] = None
    """Tolerations of the pods, as in a Pod."""
    affinity: dict[str, Any] | None = None
    """Scheduling constraints of the pods, as in a Pod."""
    priority_class_name: Annotated[PriorityClassName | None, Field(examples=["batch-low"])] = None
    """Name of the PriorityClass of the pods. Names that begin with system- are refused."""
    service_account_name: Annotated[ObjectName | None, Field(examples=["tuning"])] = None
    """Name of the ServiceAccount of the pods. Its API token is not mounted."""
    image_pull_secrets: Annotated[list[SecretReference] | None, Field(max_length=8)] = None
    """Secrets to pull the trainer image with."""
    env: Annotated[list[EnvVar], Field(max_length=64)] | None = None
    """Environment variables, as in a Pod. Take credentials from Secrets. Allowed are variables whose
    names begin with USER_, and those that docs/api/finetunejob.md lists, with the pods that get them."""
    volumes: Annotated[list[Volume], Field(max_length=16)] | None = None
    """Additional volumes, as in a Pod."""
    volume_mounts: Annotated[list[VolumeMount], Field(max_length=16)] | None = None
    """Mounts of `volumes` in the trainer container, below /mnt."""
    shared_memory: Annotated[Quantity | None, Field(examples=["8Gi"])] = None
    """Size of /dev/shm, which data loaders and communication between GPUs use. Its content counts towards the
    memory limit of the pod. Defaults to the size set by the container runtime, often 64Mi."""
    termination_grace_period_seconds: Annotated[int | None, Field(ge=0, le=3600, examples=[300])] = None
    """Time in seconds that a pod has after SIGTERM to complete its work, such as an optimizer step, and to
    save its state. Defaults to 120 seconds; for training pods, plus the time to write 24 bytes per trained
    weight at 100 MB/s."""
