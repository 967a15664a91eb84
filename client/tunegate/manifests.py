"""Turn Python objects into manifests, and check them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunegate_api.v1alpha2 import EvalGate, FineTuneJob
from tunegate_client.laptop import object_folder
from tunegate_client.manifest_checks import validate
from tunegate_client.manifests import Manifest
from tunegate_operator.engine.cluster import Object

Resource = FineTuneJob | EvalGate | Mapping[str, Any]
"""A job, a gate, or any other manifest as a dictionary, such as that of :func:`config_map`."""


class InvalidError(ValueError):
    """Resources have mistakes. ``problems`` has one line for each mistake, with the kind, the name and the
    field."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def config_map(name: str, files: Mapping[str, str | Iterable[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return a ConfigMap with ``files``. The value of a file is its text, or its rows, which are written as
    JSON Lines.

    A ConfigMap can hold 1 MiB. For more data, write a file and use its address, file://PATH. Raises
    :class:`InvalidError` if a row has a value that JSON does not have, such as NaN."""
    texts = {
        file: content if isinstance(content, str) else _json_lines(file, content)
        for file, content in files.items()
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": texts}


def to_yaml(*resources: Resource) -> str:
    """Return the resources as YAML for ``kubectl apply``. Fields that were not set are left out.

    Raises :class:`InvalidError` if a resource has mistakes. Resources that are not given, such as the gate of
    a job, are not missed.
    """
    objects = [as_object(resource) for resource in resources]
    check_objects(objects, complete=False)
    return "---\n".join(object_folder.to_yaml(obj) for obj in objects)


def as_object(resource: Resource) -> Object:
    """Return the resource as the dictionary that its manifest would have."""
    if not isinstance(resource, FineTuneJob | EvalGate):
        return dict(resource)
    given = resource.model_dump(
        mode="json", by_alias=True, exclude_unset=True, exclude_none=True, exclude={"status"}
    )
    return {"apiVersion": resource.api_version, "kind": resource.kind, **given}


def check_objects(objects: Sequence[Object], *, complete: bool) -> None:
    """Raise :class:`InvalidError` if the objects have mistakes. With ``complete``, every object that another
    one refers to must be given."""
    manifests = [Manifest(obj, Path(_label(obj)), {(): 1}) for obj in objects]
    found = [d for d in validate(manifests, complete=complete) if d.severity == "error"]
    if found:
        raise InvalidError([f"{d.file}: {d.message}" for d in found])


def _label(obj: Object) -> str:
    metadata = obj.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, Mapping) else ""
    return f"{obj.get('kind', 'resource')} {name}".strip()


def _json_lines(file: str, rows: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for number, row in enumerate(rows, start=1):
        try:
            lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        except (TypeError, ValueError) as error:
            raise InvalidError([f"{file}: row {number} cannot be written as JSON: {error}"]) from error
    return "".join(lines)
