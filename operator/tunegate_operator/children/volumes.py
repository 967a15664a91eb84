"""The volumes of a pod and their mount paths: see :mod:`tunegate_api.contract`."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tunegate_api.contract import DEFAULT_ROOT, REPORT_TOKEN_SECONDS, report_audience
from tunegate_operator.engine.cluster import Object

ROOT = PurePosixPath(DEFAULT_ROOT)
TMP_SIZE = "10Gi"
"""What a pod may write into /tmp, where libraries keep caches. A pod that writes more is evicted."""
SECRET_MODE = 0o440
"""Mode of a Secret's files. They belong to root, and the pod's user reads them through its fsGroup."""


@dataclass(frozen=True)
class PodVolumes:
    """Volumes and mounts of a pod, in the order in which they were added."""

    volumes: list[Object] = field(default_factory=list)
    mounts: list[Object] = field(default_factory=list)

    def mount(self, name: str, path: PurePosixPath, *, writes: bool = False) -> None:
        """Mount a volume of the pod. A volume may be mounted several times."""
        self.mounts.append({"name": name, "mountPath": str(path)} | ({} if writes else {"readOnly": True}))

    def add(self, name: str, source: Object, path: PurePosixPath, *, writes: bool = False) -> None:
        """Add a volume and mount it."""
        self.volumes.append({"name": name, **source})
        self.mount(name, path, writes=writes)

    def add_config_map(self, name: str, config_map: str, path: PurePosixPath) -> None:
        """Add the keys of a ConfigMap as files."""
        self.add(name, {"configMap": {"name": config_map}}, path)

    def add_claim(self, name: str, claim: str, path: PurePosixPath, *, writes: bool = False) -> None:
        """Add the volume of a PersistentVolumeClaim."""
        self.add(name, {"persistentVolumeClaim": {"claimName": claim}}, path, writes=writes)

    def add_secrets(self, secrets: list[str], *, needed: bool) -> None:
        """Add the keys of Secrets as files. If they are ``needed``, a pod waits for a Secret that does not
        exist."""
        optional = {} if needed else {"optional": True}
        for i, name in enumerate(secrets):
            source: Object = {"secretName": name, "defaultMode": SECRET_MODE}
            self.add(f"secret-{i}", {"secret": source | optional}, ROOT / "secrets" / name)

    def add_report_token(self, report_key: str) -> None:
        """Add a service account token that is valid only for sending reports with this key."""
        token = {
            "audience": report_audience(report_key),
            "expirationSeconds": REPORT_TOKEN_SECONDS,
            "path": "token",
        }
        self.add("report", {"projected": {"sources": [{"serviceAccountToken": token}]}}, ROOT / "report")

    def add_workspace(self, claim: str) -> None:
        """Add the storage volume and a /tmp."""
        self.add_claim("workspace", claim, ROOT / "workspace", writes=True)
        tmp = {"emptyDir": {"sizeLimit": TMP_SIZE}}
        self.add("tmp", tmp, PurePosixPath("/tmp"), writes=True)  # noqa: S108 - the pod's own
