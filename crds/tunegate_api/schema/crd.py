"""Build the CustomResourceDefinitions from the types. ``python -m tunegate_api.schema.crd`` writes them.

Only :func:`main` does I/O. The CRDs contain the rules of :mod:`tunegate_api.validation.rules` as CEL, and
rules for updates, so that the API server refuses what breaks these rules, as `tunegate validate` does.
"""

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tunegate_api import GROUP, VERSION
from tunegate_api.meta import NAME_PATTERN
from tunegate_api.schema.structural import Schema, structural_schema
from tunegate_api.v1alpha2 import EvalGate, EvalGateStatus, FineTuneJob, FineTuneJobSpec, FineTuneJobStatus
from tunegate_api.validation.explain import PATTERN_DESCRIPTIONS
from tunegate_api.validation.rules import RULES

MUTABLE = ("suspend", "startTimeoutSeconds", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
"""The only mutable fields of a FineTuneJob's spec. These fields control when a job runs, but not what the job
does."""

API_VERSION_TEXT = (
    "The versioned schema of this object. Servers convert it to the latest internal value, and may reject "
    "versions that they do not know."
)
KIND_TEXT = "The kind of REST resource that this object represents. Cannot be changed. In CamelCase."

HEADER = "# Generated from crds/tunegate_api by `python -m tunegate_api.schema.crd`. Do not edit.\n"

Column = dict[str, Any]


def crds() -> dict[str, dict[str, Any]]:
    """Return both CustomResourceDefinitions, by file name."""
    return {
        f"{GROUP}_finetunejobs.yaml": _crd(
            FineTuneJob,
            FineTuneJobStatus,
            plural="finetunejobs",
            short="ftj",
            immutable={"FineTuneJobSpec": _immutable_spec()},
            # Not the stages: CEL ignores the order of keyed lists, so the order would not be immutable.
            list_keys={
                ("spec", "taskMetrics"): "name",
                ("spec", "gates"): "name",
                ("spec", "data", "checks"): "name",
                ("spec", "data", "sources"): "name",
                ("spec", "publish"): "uri",
                ("status", "conditions"): "type",
            },
            columns=[
                _column("Phase", ".status.phase", "Phase of the job."),
                _column(
                    "Stage", ".status.display.stage", "Current training stage, and the number of stages."
                ),
                _column("Progress", ".status.display.progress", "Progress of the current training stage."),
                _column(
                    "Base", ".status.display.base", "Golden pass rate of the model that the job starts from."
                ),
                _column(
                    "Golden",
                    ".status.display.golden",
                    "Golden pass rate of the last checkpoint, or of the final model.",
                ),
                _column(
                    "Best", ".status.display.best", "Best checkpoint that passed, and its golden pass rate."
                ),
                _column(
                    "Gate",
                    ".status.display.gate",
                    "Verdict of the gates, Pending, or NotReached. Failed also if training was stopped.",
                ),
                _column("Next", ".status.display.next", "What a person should do next. Empty if nothing."),
                _column("Age", ".metadata.creationTimestamp", type="date"),
                _column("Model", ".status.plan.model.uri", "Model that the job starts from.", priority=1),
                _column(
                    "Published", ".status.published[0].uri", "Where the model was published.", priority=1
                ),
                _column("Message", ".status.message", "What the job is doing or waiting for.", priority=1),
            ],
        ),
        f"{GROUP}_evalgates.yaml": _crd(
            EvalGate,
            EvalGateStatus,
            plural="evalgates",
            short="eg",
            immutable=_immutable_golden_set(),
            list_keys={
                ("spec", "sets"): "name",
                ("spec", "graders"): "name",
                ("spec", "compareWith"): "type",
                ("status", "conditions"): "type",
            },
            columns=[
                _column(
                    "Ready",
                    '.status.conditions[?(@.type=="Ready")].status',
                    "Whether the gate can evaluate models. If not, jobs with this gate wait.",
                ),
                _column("Cases", ".status.cases", "Number of cases in the golden set.", type="integer"),
                _column("Last", ".status.last", "The last judged model, as JOB/STEP."),
                _column("Verdict", ".status.lastVerdict", "Verdict of the last judged model."),
                _column("PassRate", ".status.passRate", "Golden pass rate of the last judged model."),
                _column(
                    "Base", ".status.baseRate", "Golden pass rate of the base model of the last judged model."
                ),
                _column(
                    "Published", ".status.publishedRate", "Golden pass rate of the last published version."
                ),
                _column("Age", ".metadata.creationTimestamp", type="date"),
                _column(
                    "Finals",
                    ".status.looks.finals",
                    "Number of final models that were evaluated on the golden set.",
                    type="integer",
                    priority=1,
                ),
                _column(
                    "ErrorRate", ".status.errorRate", "How often the gate is wrong, as measured.", priority=1
                ),
                _column(
                    "Message",
                    '.status.conditions[?(@.type=="Ready")].message',
                    "Why the gate is ready or not.",
                    priority=1,
                ),
            ],
        ),
    }


def _column(name: str, path: str, description: str = "", type: str = "string", priority: int = 0) -> Column:
    column: Column = {"name": name, "type": type, "jsonPath": path}
    return (
        column
        | ({"description": description} if description else {})
        | ({"priority": priority} if priority else {})
    )


def _immutable_golden_set() -> dict[str, list[dict[str, str]]]:
    """Return the CEL rules that the golden set keeps its name, and with it its cases and which of them are
    sealed. Entries of a list map are compared with the earlier entry of their name."""
    same = (
        f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
        for name in ("sha256", "sealed")
    )
    cases = " && ".join(
        ["(!has(oldSelf.kind) || oldSelf.kind == 'Golden')", "self.source == oldSelf.source", *same]
    )
    message = (
        "a golden set is immutable in its name, source, sha256 and sealed share, so that pass rates stay "
        "comparable across versions: to change it, create another EvalGate with another name"
    )
    return {
        "GateSet": [
            {
                "rule": f"has(self.kind) && self.kind != 'Golden' || {cases}",
                "message": message,
                "reason": "FieldValueForbidden",
            }
        ],
        "EvalGateSpec": [
            {
                "rule": "self.sets.all(a, has(a.kind) && a.kind != 'Golden' || "
                "oldSelf.sets.exists(b, a.name == b.name))",
                "message": message,
                "fieldPath": ".sets",
                "reason": "FieldValueForbidden",
            }
        ],
    }


def _immutable_spec() -> list[dict[str, str]]:
    """Return one CEL rule for each immutable field of a FineTuneJob's spec.

    The rules are attached to the spec, because the API server skips a rule attached to an optional field when
    the field is added or removed.
    """
    rules = []
    for name, field in FineTuneJobSpec.model_fields.items():
        wire = field.alias or name
        if wire in MUTABLE:
            continue
        same = f"self.{wire} == oldSelf.{wire}"
        if not field.is_required():
            same = f"has(self.{wire}) == has(oldSelf.{wire}) && (!has(self.{wire}) || {same})"
        rules.append(
            {
                "rule": same,
                "message": f"{wire} is immutable: for another experiment create another FineTuneJob",
                "fieldPath": f".{wire}",
                "reason": "FieldValueForbidden",
            }
        )
    return rules


def _crd(
    model: type[BaseModel],
    status: type[BaseModel],
    *,
    plural: str,
    short: str,
    immutable: Mapping[str, Sequence[dict[str, str]]],
    list_keys: Mapping[tuple[str, ...], str],
    columns: Sequence[Column],
) -> dict[str, Any]:
    kind = model.__name__
    rules = {part.__name__: [rule.cel for rule in rules] for part, rules in RULES.items()}
    for part, added in immutable.items():
        rules[part] += added
    schema = structural_schema(model, rules, PATTERN_DESCRIPTIONS)
    schema["properties"] |= {
        "apiVersion": {"type": "string", "description": API_VERSION_TEXT},
        "kind": {"type": "string", "description": KIND_TEXT},
        "metadata": {
            "type": "object",
            "properties": {"name": {"type": "string", "pattern": NAME_PATTERN, "maxLength": 63}},
        },
    }
    schema["required"] = ["spec"]
    # Without patterns: only the operator writes the status, from types that check them.
    schema["properties"]["status"] = structural_schema(status)
    # Metadata may have no rules of its own.
    schema["x-kubernetes-validations"] = [
        *rules.get(kind, []),
        {
            "rule": f"self.metadata.name.matches(r'{NAME_PATTERN}')",
            "message": f"must be {PATTERN_DESCRIPTIONS[NAME_PATTERN]}",
            "fieldPath": ".metadata.name",
        },
    ]
    for path, key in list_keys.items():
        _node(schema, path).update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]})
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["tunegate"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(columns),
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _node(schema: Schema, path: Sequence[str]) -> Schema:
    for name in path:
        schema = schema["properties"][name]
    return schema


def to_yaml(crd: Mapping[str, Any]) -> str:
    """Return the CRD as YAML. Keys are sorted, so that the text changes only if the API changes."""
    import yaml  # noqa: PLC0415 - the types must import without it

    class PlainDumper(yaml.SafeDumper):
        """Writes equal values in full, without YAML aliases."""

        def ignore_aliases(self, _data: object) -> bool:
            return True

    return HEADER + yaml.dump(crd, Dumper=PlainDumper, sort_keys=True, width=110, allow_unicode=True)


def main(arguments: Sequence[str], folder: Path = Path(__file__).parents[2]) -> int:
    """Write the CRDs into ``folder``. With ``--check``, print how the files differ from the types instead,
    and return 1 if they differ."""
    stale = False
    for name, crd in crds().items():
        path, text = folder / name, to_yaml(crd)
        if "--check" in arguments:
            old = path.read_text(encoding="utf-8") if path.exists() else ""
            diff = difflib.unified_diff(
                old.splitlines(keepends=True),
                text.splitlines(keepends=True),
                f"{name} (committed)",
                f"{name} (types)",
            )
            difference = "".join(diff)
            sys.stdout.write(difference)
            stale = stale or bool(difference)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(
            "The types changed: run `python -m tunegate_api.schema.crd`, review the diff as API.\n"
        )
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
