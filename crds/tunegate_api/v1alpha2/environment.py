"""The environment variables that a user may set on pods, and which pods get them.

All other variables are refused. A user who may create a FineTuneJob can start pods through the operator, even
without the permission to create pods. The reports of these pods decide a verdict. A variable is therefore
listed only if no program in the trainer image loads code from the variable, or uses it as the name of a file
to write or to send. Names are listed in full, not by prefix, because a later version of a library may add a
variable with the same prefix that loads code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Pod = Literal["data", "train", "gate", "publish", "track"]
"""A role, see :class:`tunegate_api.contract.process.Role`. Pods of the other roles get no user variables."""

_ALL: tuple[Pod, ...] = ("data", "train", "gate", "publish", "track")
_FETCHES: tuple[Pod, ...] = ("data", "train", "publish")
_PREPARES: tuple[Pod, ...] = ("data", "train")
_DESCRIBES: tuple[Pod, ...] = ("data", "train", "track")
_TRAINS: tuple[Pod, ...] = ("train",)

OWN_PREFIX = "USER_"
"""Prefix of the names of variables for code that a user added to the trainer image."""


@dataclass(frozen=True)
class Variables:
    """A group of environment variables with the same purpose."""

    purpose: str
    """What the variables are for, and why they are safe. Printed in docs/api/finetunejob.md."""
    pods: tuple[Pod, ...]
    """The pods that get the variables."""
    names: tuple[str, ...]


ALLOWED = (
    Variables(
        "Proxies. Reports to the operator never pass through them.",
        _ALL,
        (
            *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
            *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        ),
    ),
    Variables(
        "Certificate authorities, as PEM files on a volume mounted below /mnt. The owner of a job decides "
        "which servers it trusts. Reports trust only the operator's own certificate authority.",
        _ALL,
        ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"),
    ),
    Variables(
        "Weights & Biases: connection of its client. Gate and publish pods need these variables too, because "
        "they send results themselves, and must not try to reach a server if the mode is offline.",
        _ALL,
        (
            *("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE", "WANDB_HTTP_TIMEOUT"),
            "WANDB_INSECURE_DISABLE_SSL",
        ),
    ),
    Variables(
        "Notes and tags of Weights & Biases runs. A run keeps its notes and tags when the gate pod "
        "resumes the run. In offline mode, the gate pod writes the runs again, without notes and tags.",
        _DESCRIBES,
        ("WANDB_NOTES", "WANDB_TAGS"),
    ),
    Variables(
        "MLflow: credentials and TLS. Every pod that sends metrics needs these variables to connect.",
        _ALL,
        (
            *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
            *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
            "MLFLOW_TRACKING_CLIENT_CERT_PATH",
        ),
    ),
    Variables(
        "A model hub: token, address and timeouts. The gate downloads nothing.",
        _FETCHES,
        (
            *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_DOWNLOAD_TIMEOUT"),
            *("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DISABLE_XET", "HF_HUB_VERBOSITY"),
        ),
    ),
    Variables(
        "An object store: keys, region, address and retries. Profiles and files are not allowed, because "
        "`credential_process` in a profile runs a program, and a token file is sent to the address. "
        "`AWS_ENDPOINT_URL` is not allowed either: AWS STS uses it too, so the client would send the token "
        "of the pod's ServiceAccount to that address. Set `AWS_ENDPOINT_URL_S3` instead.",
        _FETCHES,
        (
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"),
            *("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_EC2_METADATA_DISABLED"),
            *("AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT"),
            *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"),
        ),
    ),
    Variables(
        "OpenTelemetry: endpoint, headers and service name. Variables that choose exporters, samplers and "
        "propagators are not allowed, because OpenTelemetry loads code by the names in these variables.",
        _PREPARES,
        (
            *("OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"),
            *(
                f"OTEL_EXPORTER_OTLP_{signal}{what}"
                for signal in ("", "TRACES_", "METRICS_")
                for what in ("ENDPOINT", "HEADERS", "PROTOCOL", "TIMEOUT")
            ),
        ),
    ),
    Variables(
        "Time zone and verbosity.",
        _PREPARES,
        ("TZ", "TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS", "TRANSFORMERS_VERBOSITY"),
    ),
    Variables(
        "Tuning of CUDA and PyTorch. Variables that choose which GPUs a pod sees are not allowed: the device "
        "plugin chooses them.",
        _TRAINS,
        (
            *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG"),
            *("CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_LAUNCH_BLOCKING", "NVIDIA_TF32_OVERRIDE"),
            *("TORCH_DISTRIBUTED_DEBUG", "TORCH_SHOW_CPP_STACKTRACES", "TORCH_NCCL_ASYNC_ERROR_HANDLING"),
            *("TORCH_NCCL_AVOID_RECORD_STREAMS", "TORCH_NCCL_BLOCKING_WAIT"),
        ),
    ),
    Variables(
        "Tuning of gloo and NCCL. Plug-ins and files are not allowed.",
        _TRAINS,
        (
            *("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"),
            *("NCCL_ALGO", "NCCL_BUFFSIZE", "NCCL_COLLNET_ENABLE", "NCCL_CROSS_NIC", "NCCL_CUMEM_ENABLE"),
            *("NCCL_CUMEM_HOST_ENABLE", "NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DMABUF_ENABLE"),
            *("NCCL_IGNORE_CPU_AFFINITY", "NCCL_LAUNCH_MODE", "NCCL_MAX_CTAS", "NCCL_MAX_NCHANNELS"),
            *("NCCL_MIN_CTAS", "NCCL_MIN_NCHANNELS", "NCCL_NET_GDR_LEVEL", "NCCL_NET_GDR_READ"),
            *("NCCL_NSOCKS_PERTHREAD", "NCCL_NTHREADS", "NCCL_NVLS_ENABLE", "NCCL_PROTO"),
            *("NCCL_PXN_DISABLE", "NCCL_SHM_DISABLE"),
            *(f"NCCL_P2P_{what}" for what in ("DISABLE", "LEVEL", "NET_CHUNKSIZE", "PXN_LEVEL")),
            *(
                f"NCCL_SOCKET_{what}"
                for what in ("FAMILY", "IFNAME", "NTHREADS", "RETRY_CNT", "RETRY_SLEEP_MSEC")
            ),
            *(
                f"NCCL_IB_{what}"
                for what in (
                    *("ADAPTIVE_ROUTING", "ADDR_FAMILY", "ADDR_RANGE", "AR_THRESHOLD", "CUDA_SUPPORT"),
                    *("DISABLE", "ECE_ENABLE", "FIFO_TC", "GID_INDEX", "HCA", "MERGE_NICS", "MERGE_VFS"),
                    *("PCI_RELAXED_ORDERING", "PKEY", "QPS_PER_CONNECTION", "RETRY_CNT"),
                    *("ROCE_VERSION_NUM", "SL", "SPLIT_DATA_ON_QPS", "TC", "TIMEOUT", "USE_INLINE"),
                )
            ),
        ),
    ),
)
"""The variables that a user may set, in addition to variables with the prefix ``USER_``."""

OWN = Variables(
    "Your own variables, for code that you added to the trainer image.", _PREPARES, (f"{OWN_PREFIX}…",)
)


def _any_of(names: Iterable[str]) -> str:
    """Return a pattern for exactly these names. Common beginnings of names, up to an underscore, are in it
    only once, because the size of a CRD is limited."""
    rests: dict[str, list[str]] = {}
    for name in names:
        word, underscore, rest = name.partition("_")
        rests.setdefault(word + underscore, []).append(rest)
    words = [f"{word}{_any_of(rest) if any(rest) else ''}" for word, rest in rests.items()]
    return words[0] if len(words) == 1 else f"({'|'.join(words)})"


_NAMES = _any_of(name for group in ALLOWED for name in group.names)
ALLOWED_PATTERN = f"^({_NAMES}|{OWN_PREFIX}[A-Za-z0-9_]+)$"
ALLOWED_WORDS = (
    f"must be a variable that docs/api/finetunejob.md lists (proxies, certificates, and values of AWS_, HF_, "
    f"MLFLOW_, NCCL_, OTEL_ and WANDB_), or begin with {OWN_PREFIX}: set others in the trainer image, and "
    f"the number of threads by resources.cpu"
)


def pods_of(name: str) -> tuple[Pod, ...]:
    """Return the pods that get the variable ``name``. Returns no pods if the variable is not allowed."""
    if name.startswith(OWN_PREFIX):
        return OWN.pods
    return next((group.pods for group in ALLOWED if name in group.names), ())
