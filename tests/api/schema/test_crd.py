"""The CRDs: what the API server accepts, what `kubectl explain` prints, and that the files are current."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from support.graders import GUARDRAIL, JUDGE, PEOPLE, REVIEW
from support.manifests import changed, evalgate, finetunejob
from support.structural_rules import fields, unbounded, violations
from tunegate_api.schema.crd import MUTABLE, crds, main, to_yaml
from tunegate_api.schema.structural import NotStructuralError, structural_schema
from tunegate_api.v1alpha2 import EvalGate, FineTuneJob, FineTuneJobSpec, FineTuneJobStatus

ROOT = Path(__file__).parents[3]
DATA = Path(__file__).parents[1] / "data"
FILES = {"FineTuneJob": "tunegate.dev_finetunejobs.yaml", "EvalGate": "tunegate.dev_evalgates.yaml"}
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


@cache
def schema_of(kind: str) -> dict[str, Any]:
    """Return the schema of a kind, which tests must not change."""
    schema: dict[str, Any] = crds()[FILES[kind]]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@cache
def validator(kind: str) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema_of(kind))
    return Draft202012Validator(schema_of(kind))


def schema_errors(manifest: dict[str, Any]) -> list[str]:
    return [error.message for error in validator(manifest["kind"]).iter_errors(manifest)]


def field_of(kind: str, path: str) -> dict[str, Any]:
    return dict(fields(schema_of(kind)))[path]


def names(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = crds()[FILES[kind]]["spec"]["names"]
    return found


kinds = pytest.mark.parametrize("kind", FILES)


@kinds
def test_schemas_are_structural(kind: str) -> None:
    assert list(violations(schema_of(kind))) == []


@kinds
def test_every_field_has_a_description(kind: str) -> None:
    given_by_kubernetes = {".metadata", ".metadata.name"}
    bare = [path for path, field in fields(schema_of(kind)) if not field.get("description")]
    assert set(bare) <= given_by_kubernetes


@kinds
def test_descriptions_are_sentences_on_one_line(kind: str) -> None:
    for path, field in fields(schema_of(kind)):
        text = field.get("description", "Fine.")
        assert text == " ".join(text.split()), path
        assert text.endswith("."), path


@kinds
def test_every_spec_value_has_a_size_limit(kind: str) -> None:
    in_maps = ("spec.podTemplate.labels", "spec.podTemplate.annotations", "spec.podTemplate.nodeSelector")
    found = unbounded(schema_of(kind)["properties"]["spec"], "spec")
    assert [path for path in found if not path.startswith(in_maps)] == []


def test_committed_crds_match_the_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_crd_check_fails_and_prints_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], folder=tmp_path) == 0
    file = tmp_path / FILES["EvalGate"]
    file.write_text(file.read_text(encoding="utf-8").replace("shortNames", "nicknames"), encoding="utf-8")

    assert main(["--check"], folder=tmp_path) == 1
    captured = capsys.readouterr()
    assert "-    nicknames:" in captured.out
    assert "+    shortNames:" in captured.out
    assert "python -m tunegate_api.schema.crd" in captured.err


def test_crds_do_not_depend_on_the_hash_seed() -> None:
    script = "from tunegate_api.schema.crd import *; print(*map(to_yaml, crds().values()))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_building_crds_needs_no_yaml_library() -> None:
    script = (
        "import sys; sys.modules['yaml'] = None; from tunegate_api.schema.crd import crds; print(*crds())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert printed.split() == list(crds())


def test_crd_files_have_no_yaml_aliases() -> None:
    assert "*id" not in "".join(to_yaml(crd) for crd in crds().values())


@pytest.mark.parametrize("manifest", [finetunejob(), evalgate()], ids=["FineTuneJob", "EvalGate"])
def test_valid_manifests_match_the_schema(manifest: dict[str, Any]) -> None:
    assert schema_errors(manifest) == []


@pytest.mark.parametrize("file", [DATA / "finetunejob.yaml", DATA / "evalgate.yaml"], ids=lambda p: p.stem)
def test_full_manifests_match_the_schema(file: Path) -> None:
    manifest = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert schema_errors(manifest) == []


SAFETY_SET = {"name": "safety", "kind": "Safety", "source": {"builtin": "refusals-v1"}}
STATUS: dict[str, Any] = {
    "phase": "Training",
    "data": {"train": 1840, "dev": 150, "test": 150, "distributionAUC": "0.56", "reviewScore": "0.95"},
    "checkpoints": [
        {
            "stage": "sft",
            "step": 70,
            "gates": [
                {
                    "name": "invoice-golden",
                    "golden": {"passed": 96, "total": 100, "rate": "0.96"},
                    "safety": {
                        "unsafe": 0,
                        "unsafeDelta": 0,
                        "overRefused": 3,
                        "overRefusalDeltaPoints": "+1.0",
                    },
                    "verdict": "Passed",
                }
            ],
        }
    ],
}


def test_status_fields_of_unsupported_features_are_kept() -> None:
    known = {path for path, _ in fields(schema_of("FineTuneJob")["properties"]["status"])}
    assert {".data.distributionAUC", ".data.reviewScore"} <= known
    gate = ".checkpoints[].gates[].safety"
    names = ("unsafe", "unsafeDelta", "overRefused", "overRefusalDeltaPoints")
    assert {f"{gate}.{name}" for name in names} <= known
    assert schema_errors({**finetunejob(), "status": STATUS}) == []

    wire = FineTuneJobStatus.model_validate(STATUS).to_wire()
    assert wire["data"] == STATUS["data"] | {"dropped": 0, "warnings": []}
    assert wire["checkpoints"][0]["gates"][0]["safety"] == STATUS["checkpoints"][0]["gates"][0]["safety"]


def test_graders_are_in_the_schemas_of_job_and_gate() -> None:
    job = changed(finetunejob(), {"spec.data.quality": REVIEW})
    assert schema_errors(job) == []
    FineTuneJob.model_validate(job)

    changes = {"spec.sets.1": PEOPLE, "spec.graders": [JUDGE, GUARDRAIL]}
    gate = changed(evalgate(), changes)
    assert schema_errors(gate) == []
    EvalGate.model_validate(gate)
    for name in (".url", ".model", ".secretName"):
        assert field_of("EvalGate", f".spec.graders[].endpoint{name}")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_match_the_schema(file: Path) -> None:
    for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        if manifest and manifest.get("kind") in FILES:
            assert schema_errors(manifest) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"spec.stages.0.adapter.r": "16"},
        {"spec.stages.0.adapter.r": 0},
        {"spec.stages.0.method": "PPO"},
        {"spec.stages.0.training.learningRate": 0.0002},
        {"spec.stages.0.training.learningRate": "fast"},
        {"spec.gates": []},
        {"spec.model.uri": "Qwen/Qwen2.5"},
        {"metadata.name": "Orders"},
    ],
    ids=str,
)
def test_invalid_manifests_do_not_match_the_schema(changes: dict[str, Any]) -> None:
    assert schema_errors(changed(finetunejob(), changes)) != []


def test_free_form_values_keep_unknown_fields() -> None:
    for path in (".spec.taskMetrics[].schema.inline", ".spec.podTemplate.affinity"):
        assert field_of("FineTuneJob", path)["x-kubernetes-preserve-unknown-fields"] is True
    assert field_of("EvalGate", ".spec.sets[].source.inline")["items"] == {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }


def test_crds_have_short_names_and_a_category() -> None:
    assert names("FineTuneJob") == {
        "kind": "FineTuneJob",
        "listKind": "FineTuneJobList",
        "plural": "finetunejobs",
        "singular": "finetunejob",
        "shortNames": ["ftj"],
        "categories": ["tunegate"],
    }
    assert names("EvalGate")["shortNames"] == ["eg"]


@kinds
def test_status_is_a_subresource(kind: str) -> None:
    version = crds()[FILES[kind]]["spec"]["versions"][0]
    assert version["subresources"] == {"status": {}}
    assert version["served"] is version["storage"] is True


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        (
            "FineTuneJob",
            ["PHASE", "STAGE", "PROGRESS", "BASE", "GOLDEN", "BEST", "GATE", "NEXT", "AGE"],
        ),
        ("EvalGate", ["READY", "CASES", "LAST", "VERDICT", "PASSRATE", "BASE", "PUBLISHED", "AGE"]),
    ],
)
def test_kubectl_get_columns_exist_in_the_schema(kind: str, columns: list[str]) -> None:
    found = crds()[FILES[kind]]["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [c["name"].upper() for c in found if not c.get("priority")] == columns
    paths = {path for path, _ in fields(schema_of(kind))} | {".metadata.creationTimestamp"}
    # A column may select an item of a list: [0], or [?(@.type=="Ready")].
    assert {re.sub(r"\[.*?\]", "[]", column["jsonPath"]) for column in found} <= paths


def test_every_spec_field_is_immutable_or_listed_as_mutable() -> None:
    rules = schema_of("FineTuneJob")["properties"]["spec"]["x-kubernetes-validations"]
    rules = [rule for rule in rules if "oldSelf" in rule["rule"]]
    immutable = {rule["fieldPath"].removeprefix(".") for rule in rules}
    wire = {field.alias or name for name, field in FineTuneJobSpec.model_fields.items()}
    assert immutable | set(MUTABLE) == wire
    assert not immutable & set(MUTABLE)
    assert all(rule["message"].startswith(rule["fieldPath"][1:]) for rule in rules)


def test_order_of_stages_is_immutable() -> None:
    """A list with map keys would be compared as a set in CEL."""
    assert "x-kubernetes-list-map-keys" not in field_of("FineTuneJob", ".spec.stages")


class Cat(BaseModel):
    type: Literal["cat"]
    lives: int


class Dog(BaseModel):
    type: Literal["dog"]
    tricks: list[str] = []


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="type")]


class Confused(BaseModel):
    pet: int | str


class Nested(BaseModel):
    inner: "Nested | None" = None


class Bounded(BaseModel):
    size: Annotated[int, Field(gt=0)]


def test_discriminated_union_becomes_one_object() -> None:
    pet = structural_schema(Owner)["properties"]["pet"]
    assert list(violations(pet)) == []
    assert pet["properties"]["type"]["enum"] == ["cat", "dog"]
    assert pet["properties"].keys() == {"type", "lives", "tricks"}
    assert pet["required"] == ["type"]


def test_exclusive_bounds_have_the_openapi_3_0_form() -> None:
    size = structural_schema(Bounded)["properties"]["size"]
    assert size == {"type": "integer", "minimum": 0, "exclusiveMinimum": True}


@pytest.mark.parametrize("model", [Confused, Nested])
def test_type_without_structural_form_raises_an_error(model: type[BaseModel]) -> None:
    with pytest.raises(NotStructuralError, match=f"{model.__name__}.*(pet|inner)"):
        structural_schema(model)
