"""Find golden sets, safety sets and schemas in ConfigMaps, which are mounted as folders."""

import json
from pathlib import Path
from typing import Any

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import DataPlan
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.finetunejob import SchemaSource, TaskMetric
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, UserError, unreadable

NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_CORRECT_SCHEMA = "correct the schema in the ConfigMap, and create the job again"


def config_map_file(root: Path, field: str, name: str, key: str | None) -> Path:
    """Return the file of a key in a mounted ConfigMap. If ``key`` is None, return the file of its only key.

    ``field`` is the field that names the ConfigMap. It appears in the error that is raised if ``key`` is None
    and the ConfigMap does not have exactly one key.
    """
    folder = root / "inputs" / name
    if key is not None:
        return folder / key
    # A mounted ConfigMap also has the entries of Kubernetes, such as ..data.
    keys = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]
    if len(keys) != 1:
        found = ", ".join(path.name for path in keys) or "none"
        raise UserError(
            f"{field}: ConfigMap {name} must have exactly one key if {field}.key is not set; it has: {found}",
            f"set {field}.key to the key of the ConfigMap to read",
        )
    return keys[0]


def metric_schema(root: Path, metric: TaskMetric) -> dict[str, Any] | None:
    """Return the JSON schema of a JSONSchema metric, or None for other metrics.

    Raises :class:`SourceNotFoundError`, :class:`BadDataError` or :class:`UserError` if it cannot be read.
    """
    source: SchemaSource | None = metric.schema_
    if metric.type != "JSONSchema":
        return None
    if source is None or (source.inline is None and source.config_map is None):
        raise UserError("spec.taskMetrics: JSONSchema needs schema.inline or schema.configMap")
    if source.inline is not None:
        return source.inline
    path = config_map_file(root, "spec.taskMetrics.schema", str(source.config_map), source.key)
    try:
        schema: dict[str, Any] = json.loads(path.read_bytes())
    except NO_FILE as error:
        there = sorted(other.name for other in path.parent.glob("*") if not other.name.startswith("."))
        raise SourceNotFoundError(
            f"spec.taskMetrics: ConfigMap {source.config_map} has no key {path.name}",
            f"the ConfigMap has: {', '.join(there) or 'no keys'}",
        ) from error
    except PermissionError as error:
        raise unreadable(f"spec.taskMetrics: the schema at {path.relative_to(root)}") from error
    except ValueError as error:
        raise BadDataError(
            f"spec.taskMetrics: the schema at {path.relative_to(root)} is not JSON: {error}", _CORRECT_SCHEMA
        ) from error
    if not isinstance(schema, dict):
        raise BadDataError(
            f"spec.taskMetrics: the schema at {path.relative_to(root)} must be a JSON object", _CORRECT_SCHEMA
        )
    return schema


def planned_schema(root: Path, metric: TaskMetric, plan: DataPlan) -> dict[str, Any] | None:
    """Return the JSON schema of a JSONSchema metric, or None for other metrics.

    Raises :class:`BadDataError` if the schema does not have the digest in the plan, and the errors of
    :func:`metric_schema`.
    """
    schema = metric_schema(root, metric)
    if schema is None:
        return None
    found, planned = schema_sha256(schema), plan.schemas_sha256.get(metric.name, "none")
    if found != planned:
        raise BadDataError(
            f"spec.taskMetrics[{metric.name}].schema was changed after the plan was made: it has sha256 "
            f"{found}, but the plan has {planned}",
            "create the job again, and do not change the ConfigMap of the schema while it runs",
        )
    return schema


def schema_sha256(schema: dict[str, Any]) -> Sha256:
    """Return the digest of a JSON schema: the SHA-256 of the schema as JSON with sorted keys and without
    spaces. It does not depend on how the schema is formatted."""
    return sha256_text(json.dumps(schema, sort_keys=True, separators=(",", ":")))
