"""The volumes of a pod, and where it sees them."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from tunegate_api.contract import DEFAULT_ROOT, REPORT_TOKEN_SECONDS, Request, Role, report_audience
from tunegate_api.v1alpha1 import EvalGateSpec, FineTuneJob, FineTuneJobSpec
from tunegate_api.v1alpha1.data import DataSource
from tunegate_operator.engine.cluster import Object
from tunegate_operator.names import plan_name, request_name

TMP_SIZE = "10Gi"
"""What a pod may write into /tmp, where libraries keep caches. With more it is evicted."""

SECRET_MODE = 0o440
"""Of a Secret's files: they are root's, and a pod's user reads them by its fsGroup."""


def input_config_maps(spec: FineTuneJobSpec, gates: Iterable[EvalGateSpec]) -> list[str]:
    """The ConfigMaps that pods read: data, schemas, golden sets."""
    names = [source.config_map for source in _sources(spec)]
    names += [metric.schema_.config_map for metric in spec.task_metrics if metric.schema_]
    names += [gate.golden.source.config_map for gate in gates]
    return sorted({name for name in names if name})


def _sources(spec: FineTuneJobSpec) -> list[DataSource]:
    """The data that the data role reads."""
    return [source for source in (spec.data.train, spec.data.preference) if source]


def _claims(spec: FineTuneJobSpec, request: Request, role: Role) -> dict[str, bool]:
    """The claims that a role reads or writes besides its workspace, and whether it writes there."""
    if role is Role.DATA:
        start = request.start_from.uri if request.start_from else None
        uris = dict.fromkeys([spec.model.uri, start, *(source.uri for source in _sources(spec))], False)
    elif role is Role.PUBLISH:
        uris = {target.uri: True for target in spec.publish}
    elif role is Role.GATE and request.compares_with_published:
        uris = {target.uri: False for target in spec.publish}
    else:
        return {}
    return {urlsplit(uri).netloc: writes for uri, writes in uris.items() if uri and uri.startswith("pvc://")}


def secrets(spec: FineTuneJobSpec, role: Role) -> list[str]:
    """The Secrets with the credentials that a role's URIs, or the trackers, need. No other role gets them."""
    names: list[str | None] = []
    tracking = spec.tracking
    if tracking and role.tells_trackers:
        names = [tracker.secret_name for tracker in (tracking.mlflow, tracking.wandb) if tracker]
    if role is Role.DATA:
        names += [spec.model.secret_name, *(source.secret_name for source in _sources(spec))]
    elif role is Role.PUBLISH:
        names += [target.secret_name for target in spec.publish]
    return sorted({name for name in names if name})


def _report_token(job_uid: str) -> Object:
    """A token that is good for reporting on this job, and for nothing else."""
    return {
        "audience": report_audience(job_uid),
        "expirationSeconds": REPORT_TOKEN_SECONDS,
        "path": "token",
    }


def pod_volumes(
    job: FineTuneJob, request: Request, role: Role, *, reports: bool, secrets_needed: bool
) -> tuple[list[Object], list[Object]]:
    """Volumes of a pod and where it sees them, see :mod:`tunegate_api.contract`.

    ``secrets_needed`` says whether a pod waits for a Secret that does not exist.
    """
    meta = job.metadata
    root = PurePosixPath(DEFAULT_ROOT)
    optional = {} if secrets_needed else {"optional": True}
    volumes: list[Object] = []
    mounts: list[Object] = []

    def mount(name: str, path: PurePosixPath, *, writes: bool = False) -> None:
        mounts.append({"name": name, "mountPath": str(path)} | ({} if writes else {"readOnly": True}))

    def add(name: str, source: Object, path: PurePosixPath, *, writes: bool = False) -> None:
        volumes.append({"name": name, **source})
        mount(name, path, writes=writes)

    def claim(name: str) -> Object:
        return {"persistentVolumeClaim": {"claimName": name}}

    add("request", {"configMap": {"name": request_name(meta.name, meta.uid)}}, root / "request")
    if role is not Role.DATA and not role.is_chore:
        add("plan", {"configMap": {"name": plan_name(meta.name, meta.uid)}}, root / "plan")
    inputs = input_config_maps(job.spec, [gate.spec for gate in request.gates])
    for i, name in enumerate(() if role.is_chore else inputs):
        add(f"input-{i}", {"configMap": {"name": name}}, root / "inputs" / name)
    storage = job.spec.storage.persistent_volume_claim
    for i, (name, writes) in enumerate(sorted(_claims(job.spec, request, role).items())):
        if name == storage:  # one claim is one volume of a pod
            mount("workspace", root / "volumes" / name, writes=writes)
        else:
            add(f"volume-{i}", claim(name), root / "volumes" / name, writes=writes)
    for i, name in enumerate(secrets(job.spec, role)):
        source: Object = {"secretName": name, "defaultMode": SECRET_MODE}
        add(f"secret-{i}", {"secret": source | optional}, root / "secrets" / name)
    if reports:
        token = {"projected": {"sources": [{"serviceAccountToken": _report_token(meta.uid)}]}}
        add("report", token, root / "report")
    add("workspace", claim(storage), root / "workspace", writes=True)
    add("tmp", {"emptyDir": {"sizeLimit": TMP_SIZE}}, PurePosixPath("/tmp"), writes=True)  # noqa: S108 - the pod's own
    return volumes, mounts
