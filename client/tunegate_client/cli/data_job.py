"""The manifest of a job for commands that are given data instead of manifests: check and init."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from tunegate_api import API_VERSION
from tunegate_api.file_uri import file_uri
from tunegate_api.v1alpha2.data import Goal
from tunegate_api.validation.problems import find_problems

COLUMNS = click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=FIELD",
    help="The field that holds the prompt or the completion, such as completion=answer. May be repeated.",
)
FIELDS = click.option(
    "--set",
    "fields",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A field of spec.data in the job, such as checks.NearDuplicates.policy=Enforce or "
    "quality.minScore=95%. May be repeated.",
)
REVISION = click.option("--revision", help="The commit of the model. Required if it is at hf://.")
_ANY_MODEL = "file:///any-model"


def data_job(
    data: str,
    preference: str | None = None,
    production: str | None = None,
    *,
    goal: str | None,
    model: str | None,
    revision: str | None,
    columns: tuple[str, ...],
    fields: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the manifest of a job that has this data, with as few other fields as possible. If ``goal`` or
    ``model`` is None, the job has any goal or model. ``fields`` are further fields of ``spec.data``, in which
    entries of lists are set by name. The sources have the names train, preference and production."""
    sources: dict[str, Any] = {"train": {"uri": address_of(data)}}
    if columns:
        sources["train"]["columns"] = dict(_column(column) for column in columns)
    if preference:
        sources["preference"] = {"use": "Preference", "uri": address_of(preference)}
    if production:
        sources["production"] = {"use": "Production", "uri": address_of(production)}
    spec: dict[str, Any] = {"goal": goal or get_args(Goal)[0], "sources": sources}
    for field in fields:
        _set(spec, field)
    for name in ("sources", "checks"):
        if isinstance(entries := spec.get(name), dict):
            spec[name] = [_entry(name, *entry) for entry in entries.items()]
    stages = [{"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}}]
    if preference:
        stages.append({"name": "dpo", "method": "DPO", "adapter": {"from": "Previous"}})
    return {
        "apiVersion": API_VERSION,
        "kind": "FineTuneJob",
        "metadata": {"name": "check"},
        "spec": {
            "model": {"uri": address_of(model) if model else _ANY_MODEL}
            | ({"revision": revision} if revision else {}),
            "data": spec,
            "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "0%"}],
            "stages": stages,
            "resources": {"accelerator": "CPU"},
            "storage": {"persistentVolumeClaim": "check"},
        },
    }


def refuse_problems(job: dict[str, Any], others: Sequence[str] = ()) -> None:
    """Raise UsageError if options gave the job a value that it cannot have, or if there are ``others``."""
    problems = [*map(str, find_problems(job)), *others]
    if problems:
        raise click.UsageError("\n".join(problems))


def address_of(given: str) -> str:
    """Return the URI of a path; a URI is returned unchanged."""
    if "://" in given:
        return given
    path = Path(given)
    if not path.exists():
        raise click.UsageError(f"{given} does not exist")
    return file_uri(path.resolve())


def _set(data: dict[str, Any], given: str) -> None:
    """Set a field of ``spec.data``, such as ``checks.Leakage.max=10%``."""
    path, separator, value = given.partition("=")
    *parents, name = path.split(".")
    if not separator:
        raise click.UsageError(f"--set {given} must be FIELD=VALUE, such as checks.Secrets.policy=Enforce")
    for count, parent in enumerate(parents, start=1):
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise click.UsageError(f"--set {given}: {'.'.join(parents[:count])} is a value without fields")
    data[name] = value


def _entry(field: str, name: str, given: Any) -> dict[str, Any]:
    """Return the entry called ``name`` of the list ``field``."""
    if not isinstance(given, dict):
        example = {"sources": "sha256", "checks": "policy"}[field]
        raise click.UsageError(
            f"--set {field}.{name}={given} must name a field, such as {field}.{name}.{example}"
        )
    return {"name": name, **given}


def _column(given: str) -> tuple[str, str]:
    name, separator, field = given.partition("=")
    if not separator or not field:
        raise click.UsageError(f"--column {given} must be NAME=FIELD, such as completion=answer")
    return name, field
