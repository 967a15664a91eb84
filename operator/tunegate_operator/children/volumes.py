"""Build the volumes and the mounts of a pod. :mod:`tunegate_api.contract` documents the mount paths."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tunegate_api.contract.process import DEFAULT_ROOT
from tunegate_api.contract.report import REPORT_TOKEN_SECONDS, report_audience
from tunegate_operator.engine.cluster import Object

ROOT = PurePosixPath(DEFAULT_ROOT)
WHOLE = PurePosixPath()
"""The root of a volume, where a folder of it is expected."""
TMP_SIZE = "10Gi"
"""Size limit of /tmp, where libraries keep caches. A pod that writes more is evicted."""
SECRET_MODE = 0o440
"""File mode of mounted Secrets. The files belong to root, and the pod's user reads them through fsGroup."""


@dataclass(frozen=True)
class PodVolumes:
    """The volumes and the mounts of a pod, in the order in which they were added."""

    volumes: list[Object] = field(default_factory=list)
    mounts: list[Object] = field(default_factory=list)

    def mount(
        self, name: str, path: PurePosixPath, *, writes: bool = False, folder: PurePosixPath = WHOLE
    ) -> None:
        """Mount a folder of the pod's volume ``name``, read-only unless the pod ``writes`` to it. A volume
        may be mounted several times."""
        mount: Object = {"name": name, "mountPath": str(path)}
        if not writes:
            mount["readOnly"] = True
        if folder != WHOLE:
            mount["subPath"] = str(folder)
        self.mounts.append(mount)

    def add(self, name: str, source: Object, path: PurePosixPath, *, writes: bool = False) -> None:
        """Add a volume, and mount it at ``path``."""
        self.volumes.append({"name": name, **source})
        self.mount(name, path, writes=writes)

    def add_config_map(self, name: str, config_map: str, path: PurePosixPath, *, needed: bool = True) -> None:
        """Add a ConfigMap as a volume with one file per key. If the ConfigMap is ``needed``, a pod waits for
        it. Otherwise the folder is empty if the ConfigMap does not exist."""
        optional = {} if needed else {"optional": True}
        self.add(name, {"configMap": {"name": config_map, **optional}}, path)

    def add_claim(self, name: str, claim: str, path: PurePosixPath, *, writes: bool = False) -> None:
        """Add the volume of a PersistentVolumeClaim."""
        self.add(name, {"persistentVolumeClaim": {"claimName": claim}}, path, writes=writes)

    def add_secrets(self, secrets: list[str], *, needed: Collection[str]) -> None:
        """Add each Secret as a volume with one file per key. A pod waits for a ``needed`` Secret that does
        not exist."""
        for i, name in enumerate(secrets):
            source: Object = {"secretName": name, "defaultMode": SECRET_MODE}
            optional = {} if name in needed else {"optional": True}
            self.add(f"secret-{i}", {"secret": source | optional}, ROOT / "secrets" / name)

    def add_report_token(self, report_key: str) -> None:
        """Add a service account token that is valid only for sending reports with the key ``report_key``."""
        token = {
            "audience": report_audience(report_key),
            "expirationSeconds": REPORT_TOKEN_SECONDS,
            "path": "token",
        }
        self.add("report", {"projected": {"sources": [{"serviceAccountToken": token}]}}, ROOT / "report")

    def add_workspace(self, claim: str, folders: Mapping[PurePosixPath, bool]) -> None:
        """Add the job's storage claim as the workspace, and a volume for /tmp. The pod sees only ``folders``
        of the claim, each with whether it writes to it."""
        self.volumes.append({"name": "workspace", "persistentVolumeClaim": {"claimName": claim}})
        for folder, writes in folders.items():
            self.mount("workspace", ROOT / "workspace" / folder, writes=writes, folder=folder)
        tmp = {"emptyDir": {"sizeLimit": TMP_SIZE}}
        self.add("tmp", tmp, PurePosixPath("/tmp"), writes=True)  # noqa: S108 - the pod's own
