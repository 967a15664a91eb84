"""What a FineTuneJob says of its pods: what they ask for, and what a user may set on them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Name

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"

Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)]


class Gpu(ApiModel):
    """The GPUs of a training pod."""

    count: Annotated[int, Field(ge=1, le=64, examples=[2])] = 1
    """GPUs per node."""
    memory: Annotated[Quantity | None, Field(examples=["24Gi"])] = None
    """Memory of one GPU, to refuse early what cannot fit."""


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
    """Machines that train together. More than one needs a ReadWriteMany volume."""


class SecretReference(ApiModel):
    """A Secret to use."""

    name: Annotated[Name, Field(examples=["registry-login"])]
    """A Secret of this namespace."""


class PodTemplate(ApiModel):
    """What a user may set on the pods. The operator owns the rest."""

    labels: Annotated[dict[str, str], Field(max_length=32)] | None = None
    """Labels to add to the pods. Those of the operator, of Jobs and of Kueue are refused."""
    annotations: Annotated[dict[str, str], Field(max_length=32)] | None = None
    """Annotations to add to the pods. Those of the operator, of Jobs and of Kueue are refused."""
    node_selector: Annotated[dict[str, str] | None, Field(max_length=32, examples=[{"gpu": "l4"}])] = None
    """Labels that a node must have."""
    tolerations: Annotated[
        list[dict[str, Any]] | None, Field(max_length=32, examples=[[{"key": "gpu", "operator": "Exists"}]])
    ] = None
    """Taints that the pods tolerate, as in a Pod."""
    affinity: dict[str, Any] | None = None
    """Which nodes and neighbours the pods prefer, as in a Pod."""
    priority_class_name: Annotated[Name | None, Field(examples=["batch-low"])] = None
    """The PriorityClass of the pods."""
    service_account_name: Annotated[Name | None, Field(examples=["tuning"])] = None
    """The ServiceAccount of the pods. Its API token is not mounted."""
    image_pull_secrets: Annotated[list[SecretReference] | None, Field(max_length=8)] = None
    """Secrets to pull the trainer image with."""
    env: Annotated[list[dict[str, Any]], Field(max_length=64)] | None = None
    """Environment variables, as in a Pod; credentials come from Secrets. What the operator sets is refused,
    and what decides which code runs: PYTHONPATH, LD_PRELOAD and their like."""
    volumes: Annotated[list[dict[str, Any]], Field(max_length=16)] | None = None
    """More volumes, as in a Pod: configMap, secret, persistentVolumeClaim, emptyDir, ephemeral or csi."""
    volume_mounts: Annotated[list[dict[str, Any]], Field(max_length=16)] | None = None
    """Where to mount `volumes` in the trainer container, below /mnt."""
    shared_memory: Annotated[Quantity | None, Field(examples=["8Gi"])] = None
    """Size of /dev/shm, which data loaders and several GPUs use. It counts as memory of the pod. Left out:
    what the container runtime gives, often 64Mi."""
    termination_grace_period_seconds: Annotated[int | None, Field(ge=0, le=3600, examples=[300])] = None
    """Seconds that a pod gets to save after it was asked to stop. Left out: 120."""
