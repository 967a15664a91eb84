"""Run a command with the mounts of a pod, in a separate mount namespace, as a kubelet would mount them."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.full_volume import OWN_MOUNTS
from tunegate_api.contract.process import DEFAULT_ROOT, ROOT_VARIABLE
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_operator.finetunejob.volumes import pod_volumes
from tunegate_operator.names import Step

Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class PodMounts:
    """The mounts of the pods of one job. ``claims`` has the folder of each claim, and ``root`` the other
    files, such as ``request/``. The mounts of a pod are in ``root / "pod"``. As in a pod, all other folders
    are read-only, and the file for the termination message exists."""

    job: FineTuneJob
    request: Request
    root: Path
    claims: Mapping[str, Path]

    @property
    def pod(self) -> Path:
        return self.root / "pod"

    def run(self, step: Step, *command: str) -> Ended:
        """Run a command with the mounts of a step's pod. The command does not start if a mounted folder is
        missing, which a kubelet would create as root."""
        script = "\n".join(["set -eu", *self._mounts(step), 'exec "$@"'])
        return subprocess.run(
            [*OWN_MOUNTS, "sh", "-c", script, "sh", *command],
            env=os.environ | {ROOT_VARIABLE: str(self.pod)},
            capture_output=True,
            text=True,
            check=False,
        )

    def _mounts(self, step: Step) -> list[str]:
        """Return the shell commands that mount the volumes of a step's pod."""
        found = pod_volumes(self.job, self.request, step, reports=False, secrets_needed=False)
        claims = {
            volume["name"]: self.claims[volume["persistentVolumeClaim"]["claimName"]]
            for volume in found.volumes
            if "persistentVolumeClaim" in volume
        }
        pod, message = shlex.quote(str(self.pod)), shlex.quote(str(self.root / "termination.json"))
        lines = [f"mkdir -p {pod}", f"mount -t tmpfs tmpfs {pod}", f"touch {message} {pod}/termination.json"]
        lines.append(f"mount --bind {message} {pod}/termination.json")
        for mount in found.mounts:
            path = Path(mount["mountPath"])
            if not path.is_relative_to(DEFAULT_ROOT):
                continue  # /tmp
            inside = path.relative_to(DEFAULT_ROOT)
            source = claims.get(mount["name"], self.root / inside) / mount.get("subPath", "")
            if mount["name"] not in claims:
                source.mkdir(parents=True, exist_ok=True)  # a ConfigMap without keys
            quoted, target = shlex.quote(str(source)), shlex.quote(str(self.pod / inside))
            lines += [f"mkdir -p {target}", f"mount --bind {quoted} {target}"]
            if mount.get("readOnly"):
                lines.append(f"mount -o remount,ro,bind {target}")
        return [*lines, f"mount -o remount,ro {pod}"]
