"""Build a pod's file system in a folder, and its environment.

Each mount path is a symbolic link below the pod's folder instead of a mount. So read-only mounts are
writable.
"""

import base64
import os
import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from math import ceil
from pathlib import Path, PurePosixPath

from tunegate_operator.engine.cluster import Object

MESSAGE_LIMIT = 4096
"""Limit for the bytes of a termination message, as in Kubernetes."""
LOG_TAIL_BYTES, LOG_TAIL_LINES = 2048, 80
"""Limits for the end of a log that replaces a missing termination message, as in Kubernetes."""
_DEFAULT_MESSAGE_PATH = "/dev/termination-log"
_ROOT_VARIABLE, _ROOT_PATH = "TUNEGATE_ROOT", "/tunegate"
_VOLUMES = ".volumes"
"""The subfolder of the pod's folder for volumes that belong to this pod only, such as ConfigMaps."""
_EMPTY_FOLDERS = ("emptyDir", "projected", "downwardAPI")
"""Types of volumes that are empty folders on a laptop. There are no service accounts, so no tokens to
project."""

FindObject = Callable[[str, str], Object | None]
"""A function that returns a ConfigMap or Secret by kind and name, such as ``find("Secret", name)``, or
None."""
FindVolume = Callable[[str], Path]


class CannotStartError(Exception):
    """The container cannot start at present. ``reason`` is the reason that Kubernetes would report."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnschedulableError(CannotStartError):
    """The pod cannot be scheduled at present."""

    def __init__(self, message: str) -> None:
        super().__init__("Unschedulable", message)


def below(folder: Path, path: str) -> Path:
    """Return where the pod's file ``path`` is in ``folder``. Raises CannotStartError if ``path``
    contains '..'."""
    parts = PurePosixPath(path).parts
    if ".." in parts:
        raise CannotStartError("CreateContainerConfigError", f"path {path!r} must not contain '..'")
    return folder.joinpath(*(part for part in parts if part != "/"))


def build(pod: Object, folder: Path, find: FindObject, find_volume: FindVolume) -> None:
    """Create the pod's folder, or replace it if it exists.

    ``find_volume`` raises KeyError or OSError if a claim does not exist. Raises UnschedulableError if a claim
    is missing, and CannotStartError if a ConfigMap, Secret or key is missing or a path is invalid.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    spec = pod["spec"]
    sources = {
        volume["name"]: _materialize(volume, folder / _VOLUMES, find, find_volume)
        for volume in spec.get("volumes", ())
    }
    container = spec["containers"][0]
    mounts = container.get("volumeMounts", ())
    for mount in sorted(mounts, key=lambda m: PurePosixPath(m["mountPath"]).parts):
        target = below(sources[mount["name"]], mount.get("subPath", ""))
        if mount.get("subPath") and not target.exists():
            target.mkdir(parents=True)
        link = below(folder, mount["mountPath"])
        if any(parent.is_symlink() for parent in link.parents if parent != folder):
            if link.resolve() == target.resolve():
                continue  # on a cluster, this mount only makes a folder read-only
            problem = f"{mount['mountPath']} is inside another mount, which works on a cluster only"
            raise CannotStartError("CreateContainerError", problem)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target.absolute())
    message_path(pod, folder).parent.mkdir(parents=True, exist_ok=True)


def remove_secrets(pod: Object, folder: Path) -> None:
    """Remove the values of Secrets from the folder of a pod that has ended."""
    for volume in pod["spec"].get("volumes", ()):
        if "secret" in volume:
            shutil.rmtree(folder / _VOLUMES / volume["name"], ignore_errors=True)


def _materialize(volume: Object, folder: Path, find: FindObject, find_volume: FindVolume) -> Path:
    """Return the folder with the content of a volume. For a ConfigMap, a Secret or an empty volume, it is
    created in ``folder``. For a claim or a hostPath, it is outside."""
    name: str = volume["name"]
    if "configMap" in volume:
        source = volume["configMap"]
        return _files("ConfigMap", source["name"], source, folder / name, find)
    if "secret" in volume:
        source = volume["secret"]
        return _files("Secret", source["secretName"], source, folder / name, find)
    if "persistentVolumeClaim" in volume:
        claim = volume["persistentVolumeClaim"]["claimName"]
        try:
            path = find_volume(claim)
            path.mkdir(parents=True, exist_ok=True)
        except KeyError as error:
            raise UnschedulableError(f'persistentvolumeclaim "{claim}" not found') from error
        except OSError as error:
            raise UnschedulableError(f'persistentvolumeclaim "{claim}": {error}') from error
        return path
    if "hostPath" in volume:
        return Path(volume["hostPath"]["path"])
    if any(source in volume for source in _EMPTY_FOLDERS):
        (folder / name).mkdir(parents=True)
        return folder / name
    raise CannotStartError("CreateContainerConfigError", f'volume "{name}": its type works on a cluster only')


def _files(kind: str, name: str, source: Object, folder: Path, find: FindObject) -> Path:
    """Write the values of a ConfigMap or Secret, one file per key. Returns ``folder``, which only this user
    can read if it contains a Secret."""
    folder.mkdir(parents=True)
    found = find(kind, name)
    if found is None:
        if source.get("optional"):
            return folder
        hint = ": add it to the manifests" if kind == "Secret" else ""
        raise CannotStartError("CreateContainerConfigError", f'{kind.lower()} "{name}" not found{hint}')
    content = content_of(found)
    if kind == "Secret":
        folder.chmod(0o700)  # before the first file is written
    items = source.get("items") or [{"key": key, "path": key} for key in content]
    for item in items:
        if item["key"] not in content:
            raise CannotStartError(
                "CreateContainerConfigError",
                f'{kind.lower()} "{name}" references non-existent config key: {item["key"]}',
            )
        path = below(folder, item["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[item["key"]])
    return folder


def content_of(found: Object) -> dict[str, bytes]:
    """Return the values of a ConfigMap or Secret as bytes by key, with base64 decoded."""
    texts, encoded = found.get("data") or {}, found.get("binaryData") or {}
    if found["kind"] == "Secret":
        texts, encoded = {}, texts
    return {key: text.encode() for key, text in texts.items()} | {
        key: base64.b64decode(text) for key, text in encoded.items()
    }


def environment(pod: Object, folder: Path, find: FindObject) -> dict[str, str]:
    """Return the container's environment variables: those of this process, and those of the pod, which have
    priority.

    If a variable refers to a Secret or key that is not in the manifests, this process's value of the variable
    is used. Raises CannotStartError if a value is missing or can exist on a cluster only.
    """
    values = dict(os.environ)
    values["PYTHONUNBUFFERED"] = "1"  # a killed process should leave its last lines in the log
    for variable in pod["spec"]["containers"][0].get("env", ()):
        name = variable["name"]
        source = variable.get("valueFrom")
        value = _value_from(source, name, pod, find) if source else variable.get("value", "")
        if value is not None:
            values[name] = value
    values[_ROOT_VARIABLE] = str(below(folder, _ROOT_PATH).absolute())
    return values


def _value_from(source: Object, name: str, pod: Object, find: FindObject) -> str | None:
    if "fieldRef" in source:
        path: str = source["fieldRef"]["fieldPath"]
        metadata = pod["metadata"]
        known = {f"metadata.{field}": metadata[field] for field in ("name", "namespace", "uid")}
        known |= {f"metadata.labels['{key}']": text for key, text in metadata.get("labels", {}).items()}
        if path in known:
            return str(known[path])
        raise CannotStartError("CreateContainerConfigError", f"fieldPath {path} works on a cluster only")
    if "resourceFieldRef" in source:
        return _limit(source["resourceFieldRef"]["resource"], name, pod)
    if "secretKeyRef" in source:
        hint = f": add it to the manifests, or set {name} in your environment"
        reference = source["secretKeyRef"] | ({"optional": True} if name in os.environ else {})
        return _value_of("Secret", reference, find, hint)
    if "configMapKeyRef" in source:
        return _value_of("ConfigMap", source["configMapKeyRef"], find)
    problem = f"env {name}: {', '.join(source)} works on a cluster only"
    raise CannotStartError("CreateContainerConfigError", problem)


def _value_of(kind: str, reference: Object, find: FindObject, hint: str = "") -> str | None:
    """Return the value of a key of a ConfigMap or Secret, or None if it is missing and optional."""
    found = find(kind, reference["name"])
    value = content_of(found).get(reference["key"]) if found else None
    if value is not None:
        return value.decode(errors="replace")
    if reference.get("optional"):
        return None
    missing = f'{kind.lower()} "{reference["name"]}" or its key {reference["key"]} not found{hint}'
    raise CannotStartError("CreateContainerConfigError", missing)


def _limit(resource: str, name: str, pod: Object) -> str:
    """Return the container's CPU request or limit in whole cores, rounded up as Kubernetes does.

    ``resource`` is ``requests.cpu`` or ``limits.cpu``. Raises CannotStartError for other resources."""
    kind, _, of = resource.partition(".")
    quantity = pod["spec"]["containers"][0].get("resources", {}).get(kind, {}).get(of)
    match = re.fullmatch(r"([0-9.]+)(m?)", quantity or "")
    if of != "cpu" or match is None:
        problem = f"env {name}: {resource} works on a cluster only"
        raise CannotStartError("CreateContainerConfigError", problem)
    return str(ceil(Decimal(match[1]) / (1000 if match[2] else 1)))


def message_path(pod: Object, folder: Path) -> Path:
    """Return the path of the file with the container's termination message."""
    return below(folder, pod["spec"]["containers"][0].get("terminationMessagePath", _DEFAULT_MESSAGE_PATH))


def termination_message(pod: Object, folder: Path, log: Path, exit_code: int) -> str:
    """Return the container's termination message.

    If there is no message, return the end of the container's log, provided that the container failed and its
    terminationMessagePolicy is FallbackToLogsOnError.
    """
    message = _tail_or_head(message_path(pod, folder), head=MESSAGE_LIMIT)
    policy = pod["spec"]["containers"][0].get("terminationMessagePolicy", "File")
    if message or exit_code == 0 or policy != "FallbackToLogsOnError":
        return message
    return "".join(_tail_or_head(log, tail=LOG_TAIL_BYTES).splitlines(keepends=True)[-LOG_TAIL_LINES:])


def _tail_or_head(path: Path, *, head: int | None = None, tail: int = 0) -> str:
    try:
        with path.open("rb") as file:
            if tail:
                file.seek(max(0, path.stat().st_size - tail))
            return file.read(head or tail).decode(errors="replace")
    except OSError:
        return ""
