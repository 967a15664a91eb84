"""What may not stand in ``spec.podTemplate``: what the operator sets itself, and what could forge a result.

Who may create a FineTuneJob gets pods made by the operator's rights, so only volumes are taken that Pod
Security "restricted" would take from them too, and nothing that changes which code runs.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from tunegate_api.v1alpha1.agreement import Unique
from tunegate_api.v1alpha1.parts import Part

OWNED_KEYS = r"(.*\.)?(tunegate\.dev|kueue\.x-k8s\.io|batch\.kubernetes\.io)/.*|job-name|controller-uid"
"""Labels and annotations by which the operator, the Job controller and Kueue find their pods."""
OWNED_LABELS = rf"{OWNED_KEYS}|app\.kubernetes\.io/managed-by"
OWNED_VARIABLES = r"TUNEGATE_.*|KUBEFLOW_TRAINER_.*|OMP_NUM_THREADS|HF_HUB_OFFLINE"
CODE_VARIABLES = r"PYTHON.*|LD_.*|PATH"
"""Environment variables that decide which code a process runs."""
OWNED_VOLUMES = r"request|plan|workspace|tmp|shared-memory|(input|volume)-[0-9]+|tunegate-.*"
VOLUME_TYPES = ("configMap", "secret", "persistentVolumeClaim", "emptyDir", "ephemeral", "csi")
MOUNTS = PurePosixPath("/mnt")
"""Below it a user's volumes are mounted, where they hide nothing of the image."""


def check_pod_template(template: Part) -> None:
    """Complain about what the operator does not let through."""
    _keys(template, "labels", OWNED_LABELS)
    _keys(template, "annotations", OWNED_KEYS)
    Unique("env", "name").check(template)
    for variable in template.parts("env"):
        _variable(variable)
    Unique("volumes", "name").check(template)
    for volume in template.parts("volumes"):
        _volume(volume)
    names = {volume.text("name") for volume in template.parts("volumes")}
    Unique("volumeMounts", "mountPath").check(template)
    for mount in template.parts("volumeMounts"):
        _mount(mount, names)


def _keys(template: Part, field: str, owned: str) -> None:
    given = template.get(field)
    for key in given if isinstance(given, Mapping) else ():
        if re.fullmatch(owned, key):
            template.refuse("is set by the operator or the cluster: leave it out", field, key)


def _variable(variable: Part) -> None:
    name = _name(variable, "the environment variable")
    if name is None:
        return
    if re.fullmatch(OWNED_VARIABLES, name):
        instead = "give resources.cpu instead" if name == "OMP_NUM_THREADS" else "leave it out"
        variable.refuse(f"{name} is set by the operator or the trainer: {instead}", "name")
    if re.fullmatch(CODE_VARIABLES, name):
        variable.refuse(f"{name} decides which code runs: leave it out, build it into the image", "name")
    if variable.has("value") and variable.has("valueFrom"):
        variable.refuse("value and valueFrom are given together: give one of them", "valueFrom")


def _volume(volume: Part) -> None:
    name = _name(volume, "the volume")
    if name is not None and re.fullmatch(OWNED_VOLUMES, name):
        volume.refuse(f"{name} is the name of a volume of the operator: choose another one", "name")
    types = [field for field in volume.value or {} if field != "name"]
    if len(types) != 1 or types[0] not in VOLUME_TYPES:
        given = f", not {', '.join(types)}" if types else ""
        volume.refuse(f"give one of {', '.join(VOLUME_TYPES)} beside the name{given}")


def _mount(mount: Part, volumes: set[str | None]) -> None:
    name = _name(mount, "one of volumes")
    if name is not None and name not in volumes:
        listed = ", ".join(sorted(v for v in volumes if v)) or "none"
        mount.refuse(f"{name} is none of spec.podTemplate.volumes, which are: {listed}", "name")
    path = mount.text("mountPath")
    if path is None:
        mount.refuse(f"give mountPath, a folder below {MOUNTS}")
    elif not _is_below_mounts(path):
        mount.refuse(f'is "{path}": must be a folder below {MOUNTS}, where it hides nothing', "mountPath")


def _is_below_mounts(path: str) -> bool:
    folder = PurePosixPath(path)
    return MOUNTS in folder.parents and ".." not in folder.parts


def _name(entry: Part, what: str) -> str | None:
    name: Any = entry.text("name")
    if not name:
        entry.refuse(f"give name, which names {what}")
        return None
    return str(name)
