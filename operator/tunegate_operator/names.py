"""Names and labels of the objects that the operator creates, and names of gates in specs.

Names are deterministic, so a decision that is repeated finds the objects that it created before.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunegate_api import GROUP
from tunegate_api.contract.process import Role

JOB_LABEL = f"{GROUP}/job"
GATE_LABEL = f"{GROUP}/gate"
"""Labels of the objects that belong to a FineTuneJob or to an EvalGate. The value is the name of this
owner."""
ROLE_LABEL = f"{GROUP}/role"
STAGE_LABEL = f"{GROUP}/stage"
ATTEMPT_LABEL = f"{GROUP}/attempt"
REVIEW_LABEL = f"{GROUP}/review"
"""Label of ConfigMaps of users with scores for the review sample of a FineTuneJob. The value is the name of
this job."""
FILES_FINALIZER = f"{GROUP}/files"
"""Finalizer of a FineTuneJob whose files are removed from the volume when it is deleted."""
COLLECTOR_FINALIZERS = ("foregroundDeletion", "orphan")
"""Finalizers with which the garbage collector deletes the children of an object first, or releases them."""
MANAGED_LABELS = {"app.kubernetes.io/managed-by": "tunegate"}
CONTAINER = "trainer"
"""Name of the trainer container in the pods of child Jobs."""

SIGNATURE_ANNOTATION = f"{GROUP}/signature"
"""Annotation of ConfigMaps that the operator wrote: see engine/signatures.py."""
CONTINUE_ANNOTATION = f"{GROUP}/continue"
DISCARD_ANNOTATION = f"{GROUP}/discard"
REQUIRED_GATES_ANNOTATION = f"{GROUP}/required-gates"
"""Annotation of a namespace: the EvalGates that every FineTuneJob in it must name in ``spec.gates``,
separated by commas."""
APPROVE_ANNOTATION = f"{GROUP}/approve"
OVERRIDE_ANNOTATION = f"{GROUP}/override"
REJECT_ANNOTATION = f"{GROUP}/reject"
VERDICT_ANNOTATIONS = {
    "approve": APPROVE_ANNOTATION,
    "override": OVERRIDE_ANNOTATION,
    "reject": REJECT_ANNOTATION,
}
"""The annotation of each decision about the final verdict."""

MAX_LABEL = 63
MAX_INDEXED = 58 - len("-1023-")
"""Longest name of an Indexed Job. The names of its pods add an index and a suffix, and Kubernetes would cut a
longer name."""


@dataclass(frozen=True)
class Step:
    """A step of a job, which a child Job runs: a role, and for training also the stage."""

    role: Role
    stage: str | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.stage}" if self.stage else self.role


def child_name(job: str, uid: str, *parts: str) -> str:
    """Return the name ``<job>-<parts>-<uid5>`` of an object. ``<uid5>`` is the first 5 characters of the uid.
    The job's name is cut so that the result is a valid label value."""
    return _bounded(job, [*parts, uid[:5]])


def attempt_name(
    job: str, uid: str, role: str, stage: str | None, attempt: int, *, is_indexed: bool = False
) -> str:
    """Return the name of a child Job: ``<job>-<role>[-<stage>]-<uid5>-<attempt>``. ``<uid5>`` is the first 5
    characters of the uid."""
    parts = [role, *([stage] if stage else []), uid[:5], str(attempt)]
    return _bounded(job, parts, MAX_INDEXED if is_indexed else MAX_LABEL)


def nodes_name(job: str, uid: str) -> str:
    """Return the name of the Service through which the pods of a multi-pod Job find each other. The name
    starts with a letter, as Kubernetes requires for Services, even if the job's name does not."""
    return f"nodes-{child_name(job[: MAX_LABEL - 12], uid)}"


def _bounded(job: str, parts: list[str], longest: int = MAX_LABEL) -> str:
    tail = "-".join(parts)
    return f"{job[: longest - len(tail) - 1].rstrip('-')}-{tail}"


def request_name(job: str, uid: str) -> str:
    """Return the name of the ConfigMap that records the request: the job's spec and its gates as they were
    when the job started."""
    return child_name(job, uid, "request")


def plan_name(job: str, uid: str) -> str:
    """Return the name of the ConfigMap that records a job's plan."""
    return child_name(job, uid, "plan")


def results_name(job: str, uid: str) -> str:
    """Return the name of the ConfigMap that records a job's results: the outcome of every case."""
    return child_name(job, uid, "results")


def review_name(job: str, uid: str) -> str:
    """Return the name of the ConfigMap that records the scores with which a job's review was decided."""
    return child_name(job, uid, "review")


def scores_name(job: str, reviewer: str) -> str:
    """Return the name of the ConfigMap in which ``tunegate review`` stores the scores of a reviewer. It is
    the same for every job of this name. The digest includes the job's name, because a long name is cut."""
    digest = hashlib.sha256(f"{job}/{reviewer}".encode()).hexdigest()
    return _bounded(job, ["scores", digest[:10]])


def gate_names(job: Mapping[str, Any]) -> set[str]:
    """Return the names of the EvalGates of a FineTuneJob and of its stages. The spec may be invalid."""
    spec = job.get("spec")
    stages = [spec, *_dicts(spec.get("stages"))] if isinstance(spec, dict) else []
    names = [gate.get("name") for stage in stages for gate in _dicts(stage.get("gates"))]
    return {name for name in names if isinstance(name, str)}


def judged_names(job: Mapping[str, Any]) -> set[str]:
    """Return the names of the EvalGates that judged the final model of a FineTuneJob. The status may be
    invalid."""
    names = [gate.get("name") for gate in _dicts(nested(job, "status", "final", "gates"))]
    return {name for name in names if isinstance(name, str)}


def start_from(job: Mapping[str, Any]) -> str | None:
    """Return the name of the job in ``model.startFrom``; None if there is none. The spec may be invalid."""
    name = nested(job, "spec", "model", "startFrom")
    return name if isinstance(name, str) else None


def config_map_names(job: Mapping[str, Any]) -> set[str]:
    """Return the names of the ConfigMaps that the spec of a FineTuneJob names: data and schemas, but not the
    sets of its gates. The spec may be invalid."""
    sources: list[object] = [*_dicts(nested(job, "spec", "data", "sources"))]
    sources += [nested(metric, "schema") for metric in _dicts(nested(job, "spec", "taskMetrics"))]
    return _config_maps(sources)


def config_map_names_of_gate(gate: Mapping[str, Any]) -> set[str]:
    """Return the names of the ConfigMaps that an EvalGate names. The spec may be invalid."""
    return _config_maps(nested(each, "source") for each in _dicts(nested(gate, "spec", "sets")))


def _config_maps(sources: Iterable[object]) -> set[str]:
    names = [nested(source, "configMap") for source in sources]
    return {name for name in names if isinstance(name, str)}


def nested(value: object, *path: str) -> object:
    """Return the value at a path of fields; None if a field is missing or its parent is no object."""
    for field in path:
        value = value.get(field) if isinstance(value, Mapping) else None
    return value


def _dicts(value: object) -> list[dict[str, Any]]:
    """Return the dicts of a list; no dicts if the value is not a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def records_name(gate: str, uid: str) -> str:
    """Return the name of the ConfigMap with the records of the models that an EvalGate judged."""
    return child_name(gate, uid, "records")


REQUEST_KEY, PLAN_KEY, RESULTS_KEY = "request.json", "plan.json", "results.json"
REVIEW_KEY, SCORES_KEY = "review.json", "scores.json"
RECORDS_KEY = "records.json"
