"""Read manifests for a folder of runs, and refuse changes that a cluster would refuse.

Pure, except for reading files.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunegate_api.contract import sha256_text
from tunegate_api.schema.crd import MUTABLE
from tunegate_api.v1alpha1.finetunejob_status import Phase
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.manifests import load_manifests

NAMESPACE = "default"
"""The only namespace on a laptop. Manifests may name any; their objects are created in this one."""
ORDER = {"ConfigMap": 0, "Secret": 0, "EvalGate": 1, "FineTuneJob": 2}
"""The kinds that are created, in an order in which each object finds what it refers to."""
RESERVED = ("volumes",)
"""Names in the runs folder that no job may have."""


class RefusedError(Exception):
    """Manifests that cannot be applied to this folder of runs. Nothing was changed."""


@dataclass(frozen=True)
class Project:
    """The objects of one path on the command line, and the folder that they were read from."""

    objects: list[Object]
    folder: Path


def read_project(path: Path) -> Project:
    """Read the manifests of a file or folder. Raises ManifestError."""
    folder = path if path.is_dir() else path.parent
    objects = [manifest.obj for manifest in load_manifests([path])]
    ours = sorted((o for o in objects if o["kind"] in ORDER), key=lambda o: ORDER[o["kind"]])
    return Project([_as_stored(_located(obj, folder)) for obj in ours], folder)


def jobs_of(project: Project) -> list[Object]:
    return [obj for obj in project.objects if obj["kind"] == "FineTuneJob"]


def job_names(objects: Iterable[Object]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects if obj["kind"] == "FineTuneJob"]


def in_laptop_namespace(objects: Iterable[Object]) -> list[Object]:
    """Return the objects with the laptop's namespace. Raises RefusedError if two of them then have the same
    name."""
    moved: dict[Key, Object] = {}
    for obj in objects:
        new = {**obj, "metadata": {**obj["metadata"], "namespace": NAMESPACE}}
        if Key.of(new) in moved:
            raise RefusedError(
                f"{obj['kind']} {obj['metadata']['name']} is in two namespaces, but a run on a laptop has "
                "only one: rename one of them, or run them separately, each with its own --runs"
            )
        moved[Key.of(new)] = new
    return list(moved.values())


def refuse_reserved(names: Iterable[str]) -> None:
    """Raise RefusedError if a job has a reserved name."""
    for name in names:
        if name in RESERVED:
            raise RefusedError(
                f"FineTuneJob {name}: {name}/ is a reserved name in the runs folder; "
                "give the job another name"
            )


def refuse_changed_spec(existing: Object, obj: Object) -> None:
    """Raise RefusedError if a FineTuneJob exists with another immutable spec."""
    old, new = ({k: v for k, v in o["spec"].items() if k not in MUTABLE} for o in (existing, obj))
    changed = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    if changed:
        raise RefusedError(
            f"FineTuneJob {obj['metadata']['name']} exists and its spec is immutable; "
            f"changed: {', '.join(changed)}. "
            "Give the new experiment another name, or start over with --again."
        )


def refuse_missing_start_job(job: Object, earlier: Object | None) -> None:
    """Raise RefusedError if a job's ``startFrom`` names a job that is not in this folder or has not ended."""
    name = job["metadata"]["name"]
    source = job["spec"]["model"]["startFrom"]
    if earlier is None:
        raise RefusedError(f"FineTuneJob {name} starts from {source}, which has not run here. Run it first.")
    phase = earlier.get("status", {}).get("phase") or Phase.PENDING
    if not Phase(phase).is_final:
        raise RefusedError(
            f"FineTuneJob {name} starts from {source}, which is {phase}. "
            "Wait until it ends, or run both with one command."
        )


def changes_immutable_content(existing: Object, obj: Object) -> bool:
    """Return whether a cluster would refuse this change of an EvalGate or ConfigMap, because it changes
    immutable content."""
    if obj["kind"] == "EvalGate":
        return bool(existing["spec"].get("golden") != obj["spec"].get("golden"))
    return bool(existing.get("immutable")) and content(existing) != content(obj)


def refuse_immutable_change(obj: Object, users: Iterable[str], *, again: bool) -> None:
    """Raise RefusedError for a change of immutable content, unless ``again`` is set and there are no other
    ``users``, which are names of jobs."""
    users = list(users)
    if again and not users:
        return
    name, gate = obj["metadata"]["name"], obj["kind"] == "EvalGate"
    what = "its golden set is immutable, so that pass rates stay comparable" if gate else "it is immutable"
    way = f"It is also used by {', '.join(users)}" if users else "Or start over with --again"
    raise RefusedError(
        f"{obj['kind']} {name} exists and {what}. "
        f"{'Create another EvalGate for the set' if gate else 'Give the new content another name'}. {way}."
    )


def _uses(user: Object, obj: Object) -> bool:
    """Return whether ``user`` refers to ``obj``: a FineTuneJob to an EvalGate, or either to a ConfigMap."""
    field = "name" if obj["kind"] == "EvalGate" else "configMap"
    part = _gates(user["spec"]) if obj["kind"] == "EvalGate" else user["spec"]
    return obj["metadata"]["name"] in _values(part, field)


def inputs_of(job: Object, objects: Iterable[Object]) -> dict[str, str]:
    """Return the gates and ConfigMaps that a FineTuneJob reads, each with the digest of its content."""
    objects = list(objects)
    gates = [o for o in objects if o["kind"] == "EvalGate" and _uses(job, o)]
    maps = [o for o in objects if o["kind"] == "ConfigMap" and any(_uses(user, o) for user in (job, *gates))]
    return {f"{o['kind']} {o['metadata']['name']}": _digest(o) for o in (*maps, *gates)}


def content(obj: Object) -> Object:
    """Return an object without metadata and status."""
    return {field: value for field, value in obj.items() if field not in ("metadata", "status")}


def _digest(obj: Object) -> str:
    return sha256_text(json.dumps(content(obj), sort_keys=True))


def _gates(spec: Object) -> list[Any]:
    return [spec.get("gates"), *(stage.get("gates") for stage in spec.get("stages") or [])]


def _values(value: Any, field: str) -> set[str]:
    """Return the text values of all fields with this name, at any depth."""
    if isinstance(value, dict):
        here = {value[field]} if isinstance(value.get(field), str) else set()
        return here.union(*(_values(part, field) for part in value.values()))
    if isinstance(value, list):
        return set().union(*(_values(part, field) for part in value))
    return set()


def _as_stored(obj: Object) -> Object:
    """Return the object as an API server would store it: with a Secret's stringData as part of its data."""
    if obj["kind"] != "Secret":
        return obj
    texts = (obj.get("stringData") or {}).items()
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts}
    kept = {field: value for field, value in obj.items() if field != "stringData"}
    return kept | {"data": (obj.get("data") or {}) | encoded}


def _located(obj: Object, folder: Path) -> Object:
    """Return the object with absolute file:// URIs: relative ones are relative to the manifest's folder."""

    def absolute(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: absolute(v) for k, v in value.items()}
        if isinstance(value, list):
            return [absolute(v) for v in value]
        if isinstance(value, str) and value.startswith("file://") and not value.startswith("file:///"):
            return f"file://{(folder / value.removeprefix('file://')).resolve()}"
        return value

    return {**obj, "spec": absolute(obj["spec"])} if obj["kind"] == "FineTuneJob" else obj
