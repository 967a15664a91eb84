"""Read manifests for a runs folder, and refuse changes that a cluster would refuse.

Reading the manifests is the only I/O.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunegate_api.contract.digests import sha256_text
from tunegate_api.file_uri import FILE, file_path, file_uri
from tunegate_api.schema.crd import MUTABLE
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_client.laptop.trainer import missing_trainer
from tunegate_client.manifests import load_manifests
from tunegate_operator.engine.cluster import Key, Object

NAMESPACE = "default"
"""The only namespace on a laptop. Objects are created in it, whatever namespace their manifests name."""
ORDER = {"ConfigMap": 0, "Secret": 0, "EvalGate": 1, "FineTuneJob": 2}
"""The kinds that are created, and their order: an object is created after those to which it refers."""
RESERVED = ("volumes",)
"""Names that no job may have, because a folder in the runs folder has this name."""


class RefusedError(Exception):
    """The manifests cannot be applied to this runs folder. Nothing was changed."""


@dataclass(frozen=True)
class Project:
    """The objects in the manifests at one path of the command line, and the folder of these manifests."""

    objects: list[Object]
    folder: Path


def read_project(path: Path) -> Project:
    """Read the manifests of a file or folder. Raises ManifestError."""
    folder = path if path.is_dir() else path.parent
    return project_of([manifest.obj for manifest in load_manifests([path])], folder)


def project_of(objects: Iterable[Object], folder: Path) -> Project:
    """Return the objects of the kinds that a laptop creates, in the order in which they are created, as an
    API server would store them."""
    ours = sorted((o for o in objects if o["kind"] in ORDER), key=lambda o: ORDER[o["kind"]])
    return Project([_as_stored(_located(obj, folder)) for obj in ours], folder)


def jobs_of(project: Project) -> list[Object]:
    return [obj for obj in project.objects if obj["kind"] == "FineTuneJob"]


def job_names(objects: Iterable[Object]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects if obj["kind"] == "FineTuneJob"]


def in_laptop_namespace(objects: Iterable[Object]) -> list[Object]:
    """Return the objects with the laptop's only namespace.

    Raises RefusedError if two objects of one kind then have the same name."""
    moved: dict[Key, Object] = {}
    for obj in objects:
        new = {**obj, "metadata": {**obj["metadata"], "namespace": NAMESPACE}}
        if Key.of(new) in moved:
            raise RefusedError(
                f"two namespaces have a {obj['kind']} {obj['metadata']['name']}, but a run on a laptop has "
                "only one namespace: rename one of the two objects, or run the manifests of each namespace "
                "separately, each with its own --runs"
            )
        moved[Key.of(new)] = new
    return list(moved.values())


def refuse_missing_trainer() -> None:
    """Raise RefusedError if the libraries of the trainer are not installed."""
    if missing := missing_trainer():
        raise RefusedError(missing)


def refuse_reserved(names: Iterable[str]) -> None:
    """Raise RefusedError if a job has a reserved name."""
    for name in names:
        if name in RESERVED:
            raise RefusedError(
                f"FineTuneJob {name}: no job may have this name, because {name}/ in the runs folder is "
                "reserved for volumes; give the job another name"
            )


def refuse_changed_spec(existing: Object, obj: Object) -> None:
    """Raise RefusedError if ``obj`` would change immutable fields of the FineTuneJob ``existing``."""
    old, new = ({k: v for k, v in o["spec"].items() if k not in MUTABLE} for o in (existing, obj))
    changed = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    if changed:
        raise RefusedError(
            f"FineTuneJob {obj['metadata']['name']} exists and its spec is immutable, but the manifest has "
            f"other values for: {', '.join(changed)}. "
            "Give the new job another name, or start over with --again, which deletes the old run."
        )


def refuse_missing_start_job(job: Object, earlier: Object | None) -> None:
    """Raise RefusedError if the job that ``job`` names in ``startFrom`` does not exist in this runs folder or
    has not ended. ``earlier`` is the named job, or None if it does not exist."""
    name = job["metadata"]["name"]
    source = job["spec"]["model"]["startFrom"]
    if earlier is None:
        raise RefusedError(
            f"FineTuneJob {name} starts from job {source}, which has not run in this runs folder. "
            f"Run {source} first."
        )
    phase = earlier.get("status", {}).get("phase") or Phase.PENDING
    if not Phase(phase).is_final:
        raise RefusedError(
            f"FineTuneJob {name} starts from job {source}, which has not ended: its phase is {phase}. "
            f"Wait until {source} ends, or run both jobs with one command."
        )


def changes_immutable_content(existing: Object, obj: Object) -> bool:
    """Return whether ``obj`` would change immutable content of the EvalGate or ConfigMap ``existing``, so
    that a cluster would refuse the change."""
    if obj["kind"] == "EvalGate":
        return _golden_set(existing) != _golden_set(obj)
    return bool(existing.get("immutable")) and content(existing) != content(obj)


def _golden_set(gate: Object) -> list[Object]:
    """Return what decides the cases of the golden set of an EvalGate."""
    golden = [each for each in gate["spec"]["sets"] if each.get("kind", "Golden") == "Golden"]
    return [{name: each.get(name) for name in ("source", "sha256", "sealed")} for each in golden]


def refuse_immutable_change(obj: Object, users: Iterable[str], *, again: bool) -> None:
    """Raise RefusedError, because ``obj`` changes immutable content of an EvalGate or ConfigMap. With
    ``again``, raise it only if other jobs read the object; ``users`` are the names of these jobs."""
    users = list(users)
    if again and not users:
        return
    kind, name, gate = obj["kind"], obj["metadata"]["name"], obj["kind"] == "EvalGate"
    what = "it is immutable, but the manifest has other content"
    if gate:
        what = "its golden set is immutable, so that pass rates stay comparable, but the manifest has another"
    way = f". This {kind} is also used by FineTuneJob {', '.join(users)}, so --again cannot replace it"
    if not users:
        way = ", or start over with --again, which deletes the old run"
    raise RefusedError(
        f"{kind} {name} exists and {what}. "
        f"{'Create another EvalGate for the new set' if gate else 'Give the changed ConfigMap another name'}"
        f"{way}."
    )


def _uses(user: Object, obj: Object) -> bool:
    """Return whether ``user``, a FineTuneJob or an EvalGate, refers to ``obj``, an EvalGate or a
    ConfigMap."""
    field = "name" if obj["kind"] == "EvalGate" else "configMap"
    part = _gates(user["spec"]) if obj["kind"] == "EvalGate" else user["spec"]
    return obj["metadata"]["name"] in _values(part, field)


def inputs_of(job: Object, objects: Iterable[Object]) -> dict[str, str]:
    """Return the EvalGates and ConfigMaps that a FineTuneJob reads, as ``KIND NAME``, each with the digest of
    its content."""
    objects = list(objects)
    gates = [o for o in objects if o["kind"] == "EvalGate" and _uses(job, o)]
    maps = [o for o in objects if o["kind"] == "ConfigMap" and any(_uses(user, o) for user in (job, *gates))]
    return {f"{o['kind']} {o['metadata']['name']}": _digest(o) for o in (*maps, *gates)}


def content(obj: Object) -> Object:
    """Return an object without its metadata and status."""
    return {field: value for field, value in obj.items() if field not in ("metadata", "status")}


def _digest(obj: Object) -> str:
    return sha256_text(json.dumps(content(obj), sort_keys=True))


def _gates(spec: Object) -> list[Any]:
    return [spec.get("gates"), *(stage.get("gates") for stage in spec.get("stages") or [])]


def _values(value: Any, field: str) -> set[str]:
    """Return the string values of all fields named ``field`` inside ``value``, at any depth."""
    if isinstance(value, dict):
        here = {value[field]} if isinstance(value.get(field), str) else set()
        return here.union(*(_values(part, field) for part in value.values()))
    if isinstance(value, list):
        return set().union(*(_values(part, field) for part in value))
    return set()


def _as_stored(obj: Object) -> Object:
    """Return the object as an API server would store it: the stringData of a Secret is moved to its data."""
    if obj["kind"] != "Secret":
        return obj
    texts = (obj.get("stringData") or {}).items()
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts}
    kept = {field: value for field, value in obj.items() if field != "stringData"}
    return kept | {"data": (obj.get("data") or {}) | encoded}


def _located(obj: Object, folder: Path) -> Object:
    """Return the object with absolute file:// URIs. Relative file:// URIs are relative to ``folder``, the
    manifest's folder."""

    def absolute(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: absolute(v) for k, v in value.items()}
        if isinstance(value, list):
            return [absolute(v) for v in value]
        if isinstance(value, str) and value.startswith(FILE) and not value.startswith(f"{FILE}/"):
            return file_uri((folder / file_path(value)).resolve())
        return value

    return {**obj, "spec": absolute(obj["spec"])} if obj["kind"] == "FineTuneJob" else obj
