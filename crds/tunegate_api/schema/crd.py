"""The CustomResourceDefinitions, made from the types. ``python -m tunegate_api.schema.crd`` writes them.

Pure but for :func:`main`. The rules of :mod:`tunegate_api.validation.rules` stand in them as CEL, with rules
for updates, so that the API server refuses at once what `tunegate validate` would.
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
from tunegate_api.v1alpha1 import EvalGate, EvalGateStatus, FineTuneJob, FineTuneJobSpec, FineTuneJobStatus
from tunegate_api.validation.explain import SHAPES
from tunegate_api.validation.rules import RULES

MUTABLE = ("suspend", "startTimeoutSeconds", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
"""The only fields of a FineTuneJob's spec that may change: they say when to run, not what."""

API_VERSION_TEXT = (
    "The versioned schema of this object. Servers convert it to the latest internal value, and may reject "
    "versions that they do not know."
)
KIND_TEXT = "The REST resource that this object is. Cannot be changed. In CamelCase."

HEADER = "# Generated from crds/tunegate_api by `python -m tunegate_api.schema.crd`. Do not edit.\n"

Column = dict[str, Any]


def crds() -> dict[str, dict[str, Any]]:
    """Both CustomResourceDefinitions, by file name."""
    return {
        f"{GROUP}_finetunejobs.yaml": _crd(
            FineTuneJob,
            FineTuneJobStatus,
            plural="finetunejobs",
            short="ftj",
            spec_rules=_immutable_spec(),
            # Not the stages: CEL ignores the order of keyed lists, so the order would not be immutable.
            list_keys={
                ("spec", "taskMetrics"): "name",
                ("spec", "gates"): "name",
                ("spec", "publish"): "uri",
                ("status", "conditions"): "type",
            },
            columns=[
                _column("Phase", ".status.phase", "Where the job is."),
                _column("Stage", ".status.display.stage", "The stage that trains, of how many."),
                _column("Progress", ".status.display.progress", "Share of the stage's steps done."),
                _column("Golden", ".status.display.golden", "Golden pass rate of the last checkpoint."),
                _column(
                    "Gate",
                    ".status.display.gate",
                    "Pending, the final verdict, Failed where a gate stopped training, or NotReached.",
                ),
                _column("Best", ".status.display.best", "The checkpoint that goes on."),
                _column("Age", ".metadata.creationTimestamp", type="date"),
                _column("Message", ".status.message", "What the job does or waits for.", priority=1),
            ],
        ),
        f"{GROUP}_evalgates.yaml": _crd(
            EvalGate,
            EvalGateStatus,
            plural="evalgates",
            short="eg",
            spec_rules=[
                {
                    "rule": "self.golden == oldSelf.golden",
                    "message": "golden is immutable, so that pass rates compare across versions: "
                    "a changed golden set is another EvalGate, with another name",
                    "fieldPath": ".golden",
                    "reason": "FieldValueForbidden",
                }
            ],
            list_keys={("status", "conditions"): "type"},
            columns=[
                _column("Cases", ".status.cases", "Cases in the golden set.", type="integer"),
                _column("Last", ".status.last", "The last judged model: job/step."),
                _column("Verdict", ".status.lastVerdict", "What the gate said of it."),
                _column("PassRate", ".status.passRate", "Golden pass rate of the last judged model."),
                _column("Base", ".status.baseRate", "Golden pass rate of its base model."),
                _column("Published", ".status.publishedRate", "Golden pass rate of the published version."),
                _column("Live", ".status.liveVerdict", "What the gate said of its target."),
                _column("Age", ".metadata.creationTimestamp", type="date"),
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


def _immutable_spec() -> list[dict[str, str]]:
    """One rule a field, on the spec: a rule on an optional field is skipped when the field comes or goes."""
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
    spec_rules: Sequence[dict[str, str]],
    list_keys: Mapping[tuple[str, ...], str],
    columns: Sequence[Column],
) -> dict[str, Any]:
    kind = model.__name__
    rules = {part.__name__: [rule.cel for rule in rules] for part, rules in RULES.items()}
    rules[f"{kind}Spec"] += spec_rules
    schema = structural_schema(model, rules, SHAPES)
    schema["properties"] |= {
        "apiVersion": {"type": "string", "description": API_VERSION_TEXT},
        "kind": {"type": "string", "description": KIND_TEXT},
        "metadata": {
            "type": "object",
            "properties": {"name": {"type": "string", "pattern": NAME_PATTERN, "maxLength": 63}},
        },
    }
    schema["required"] = ["spec"]
    # The operator alone writes status: no words for patterns, which would cost more than CEL may.
    schema["properties"]["status"] = structural_schema(status)
    # Metadata may have no rules of its own.
    schema["x-kubernetes-validations"] = [
        *rules.get(kind, []),
        {
            "rule": f"self.metadata.name.matches(r'{NAME_PATTERN}')",
            "message": f"must be {SHAPES[NAME_PATTERN]}",
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
    """The file's text: keys sorted, so that only a change of the API changes it."""
    import yaml  # noqa: PLC0415 - the types must import without it

    class PlainDumper(yaml.SafeDumper):
        """Repeats what is equal instead of referring to it."""

        def ignore_aliases(self, _data: object) -> bool:
            return True

    return HEADER + yaml.dump(crd, Dumper=PlainDumper, sort_keys=True, width=110, allow_unicode=True)


def main(arguments: Sequence[str], folder: Path = Path(__file__).parents[2]) -> int:
    """Write the files into ``folder``; with ``--check`` print how they differ and return 1 if they do."""
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
