"""What manifests must agree on, told by file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.manifests import (
    GOLDEN_TEXT,
    LEAVE_OUT,
    Changes,
    changed,
    config_map,
    evalgate,
    finetunejob,
    table,
)
from tunegate_api.contract import sha256_text
from tunegate_api.judging.golden import inline_golden
from tunegate_operator.manifest_checks import validate
from tunegate_operator.manifests import load_manifests

EXAMPLES = Path(__file__).parents[1] / "examples"
CASES = GOLDEN_TEXT + "".join(
    json.dumps({"id": f"case-{n}", "prompt": "hi", "expect": [{"type": "equals", "value": "ho"}]}) + "\n"
    for n in range(2, 31)
)


def family(changes: Changes | None = None) -> dict[str, dict[str, Any]]:
    """A job with all that it names, by file name; ``changes`` begin with the file's name."""
    files = {
        "job": finetunejob(),
        "gate": changed(evalgate(), {"spec.golden.sha256": sha256_text(CASES)}),
        "format": changed(evalgate("orders-format"), {"spec.golden.sha256": sha256_text(CASES)}),
        "data": config_map("orders-data", {"train.jsonl": '{"prompt": "a", "completion": "b"}\n'}),
        "golden": config_map("orders-golden-v1", {"golden.jsonl": CASES}),
    }
    return changed(files, changes or {})


def said_of(folder: Path, files: dict[str, dict[str, Any]]) -> list[str]:
    """What is said of the files, each as ``file: message``. They are written as JSON, which is YAML too."""
    for name, manifest in files.items():
        (folder / f"{name}.yaml").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return [f"{d.file.stem}: {d.message}" for d in validate(load_manifests([folder]))]


def test_manifests_that_agree_have_nothing_said_of_them(tmp_path: Path) -> None:
    assert said_of(tmp_path, family()) == []


def test_key_that_begins_with_a_dot_does_not_count(tmp_path: Path) -> None:
    files = family({"gate.spec.golden.source.key": LEAVE_OUT})
    files["golden"]["data"][".notes"] = "not a golden set"
    assert said_of(tmp_path, files) == []


CHECKS: list[tuple[str, Changes, str]] = [
    (
        "a gate that is not there",
        {"job.spec.gates.0.name": "odd"},
        "job: no EvalGate odd in these files; found: orders-format, orders-golden",
    ),
    (
        "a stage's gate that is not there",
        {"job.spec.stages.0.gates.0.name": "odd"},
        "job: no EvalGate odd in these files",
    ),
    (
        "a gate in another namespace",
        {"gate.metadata.namespace": "team-b"},
        "job: EvalGate orders-golden is in namespace team-b, but this manifest is in default",
    ),
    (
        "data that is not there",
        {"job.spec.data.train.configMap": "odd"},
        "job: no ConfigMap odd in these files; found: orders-data, orders-golden-v1",
    ),
    (
        "data with another key",
        {"job.spec.data.train.key": "odd.jsonl"},
        "job: ConfigMap orders-data has no key odd.jsonl; it has: train.jsonl",
    ),
    (
        "data with two keys and none said",
        {"job.spec.data.train.key": LEAVE_OUT, "data.data.b": "text"},
        "job: ConfigMap orders-data has keys: b, train.jsonl; set key to one of them",
    ),
    (
        "data that holds nothing",
        {"job.spec.data.train.key": LEAVE_OUT, "data.data": LEAVE_OUT},
        "job: ConfigMap orders-data has no data",
    ),
    (
        "data that changed",
        {"job.spec.data.train.sha256": "0" * 64},
        "job: spec.data.train.sha256 does not match the content, whose digest is "
        + sha256_text('{"prompt": "a", "completion": "b"}\n'),
    ),
    (
        "a schema that is not there",
        {"job.spec.taskMetrics.0.schema": {"configMap": "odd"}},
        "job: no ConfigMap odd in these files",
    ),
    (
        "a schema that is no JSON",
        {"job.spec.taskMetrics.0.schema": {"configMap": "orders-data"}, "data.data.train\\.jsonl": "{\n}}"},
        "data: the schema is not JSON: Extra data",
    ),
    (
        "a schema that is a list",
        {
            "job.spec.taskMetrics.0.schema": {"configMap": "orders-schema"},
            "schema": config_map("orders-schema", {"schema.json": "[]"}),
        },
        "schema: a JSON schema must be a mapping, not a list",
    ),
    (
        "a schema of a type that does not exist",
        {
            "job.spec.taskMetrics.0.schema": {"configMap": "orders-schema"},
            "schema": config_map("orders-schema", {"schema.json": '{"items": {"type": "text"}}'}),
        },
        "schema: in the schema items.type: must be one of array, boolean,",
    ),
    (
        "a schema that nobody can read",
        {
            "job.spec.taskMetrics.0.schema": {"configMap": "orders-schema"},
            "schema": config_map("orders-schema", {"schema.json": "9" * 5000}),
        },
        "schema: the schema cannot be read: ",
    ),
    (
        "cases that changed",
        {"gate.spec.golden.sha256": "0" * 64},
        f"gate: spec.golden.sha256 does not match the content, whose digest is {sha256_text(CASES)}",
    ),
    (
        "cases that are not there",
        {"gate.spec.golden.source.configMap": "odd"},
        "gate: no ConfigMap odd in these files",
    ),
    (
        "a tag that no case has",
        {"gate.spec.thresholds.mustPass.1": "odd"},
        "gate: no golden case has the id or the tag odd",
    ),
    (
        "fewer cases than the threshold needs",
        {"gate.spec.thresholds.maxDropPoints": "2"},
        "gate: 30 golden cases are too few to detect a drop of 2 points, so no model can pass: have at least",
    ),
    (
        "a value that is no text",
        {"data.data.number": 5},
        "data: data.number must be text: write it below `number: |`",
    ),
    (
        "a ConfigMap with a name that none can have",
        {"data.metadata.name": "Orders_Data"},
        'data: metadata.name: is "Orders_Data": must be lower-case letters, digits, dashes and dots',
    ),
    ("a ConfigMap without a name", {"data.metadata": {}}, "data: metadata.name: missing: give the object a"),
    (
        "a ConfigMap with a label that is a number",
        {"data.metadata.labels": {"version": 2}},
        'data: metadata.labels.version: must be text: write "2", with the quotes',
    ),
    (
        "a ConfigMap of text",
        {"data.data": "all"},
        "data: data must be a mapping of keys to text",
    ),
    (
        "a key that none can be",
        {"data.data.a b": "text"},
        'data: data: "a b" must be a key of a ConfigMap: letters, digits, dots, dashes and underscores',
    ),
    (
        "a ConfigMap that is too large",
        {"data.data.more": "é" * (512 * 1024)},
        "data: data has 1,048,611 bytes, and a ConfigMap takes at most 1,048,576: put the file on a volume",
    ),
    (
        "a misspelt kind of ours",
        {"job.kind": "FinetuneJob"},
        'job: kind: is "FinetuneJob", did you mean FineTuneJob? Must be one of EvalGate, FineTuneJob',
    ),
    (
        "our version without a kind",
        {"job.kind": LEAVE_OUT},
        "job: kind: missing: must be EvalGate or FineTuneJob",
    ),
    (
        "our kind without a version",
        {"job.apiVersion": LEAVE_OUT},
        "job: apiVersion: missing: must be tunegate.dev/v1alpha1",
    ),
    (
        "a kind of ours that does not exist",
        {"plan": {"apiVersion": "tunegate.dev/v1", "kind": "Plan", "metadata": {"name": "a"}}},
        'plan: kind: is "Plan": must be one of EvalGate, FineTuneJob',
    ),
    (
        "a job of the same name",
        {"job2": finetunejob()},
        "job2: FineTuneJob orders is already defined at ",
    ),
    (
        "a kind that is not ours",
        {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}},
        "pod: Pod a is ignored",
    ),
    ("a field that does not exist", {"job.spec.colour": "red"}, "job: spec.colour: unknown field"),
]


@table(CHECKS)
def test_what_does_not_agree_is_told(tmp_path: Path, changes: Changes, said: str) -> None:
    plain = {path: value for path, value in changes.items() if "\\." not in path}
    files = family(plain)
    if "data.data.train\\.jsonl" in changes:
        files["data"]["data"]["train.jsonl"] = changes["data.data.train\\.jsonl"]
    messages = said_of(tmp_path, files)
    assert [message for message in messages if message.startswith(said)], messages


def test_a_config_map_of_just_one_mebibyte_is_taken(tmp_path: Path) -> None:
    size = len(family()["data"]["data"]["train.jsonl"])
    assert said_of(tmp_path, family({"data.data.more": "a" * (1024 * 1024 - size)})) == []


def test_a_secret_is_checked_and_its_values_are_not_shown(tmp_path: Path) -> None:
    secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}}
    assert said_of(tmp_path, family() | {"hub": secret | {"stringData": {"HF_TOKEN": "pa$$"}}}) == []
    wrong = secret | {"data": {"HF_TOKEN": "pa$$"}, "stringData": {"PORT": 1}}
    assert said_of(tmp_path, family() | {"hub": wrong}) == [
        "hub: data.HF_TOKEN must be base64: use stringData for plain text",
        "hub: stringData.PORT must be text: write it below `PORT: |`",
    ]


def test_labels_and_annotations_that_are_left_empty_are_none(tmp_path: Path) -> None:
    empty = {f"{file}.metadata.{field}": None for file in family() for field in ("labels", "annotations")}
    assert said_of(tmp_path, family(empty)) == []
    for manifest in load_manifests([tmp_path]):
        assert manifest.obj["metadata"].keys() == {"name"}


@pytest.mark.parametrize("baselines", [[], ["LastPublished"]])
def test_enough_cases_are_not_asked_for_where_there_may_be_nothing_to_compare_with(
    tmp_path: Path, baselines: list[str]
) -> None:
    changes = {"gate.spec.thresholds.maxDropPoints": "2", "gate.spec.baselines": baselines}
    assert said_of(tmp_path, family(changes)) == []


def test_inline_cases_are_checked_where_they_stand(tmp_path: Path) -> None:
    good = {"id": "a", "prompt": "hi", "expect": [{"type": "equals", "value": "ho"}]}
    bad = {"id": "b", "expect": [{"type": "equals", "value": "ho"}]}
    changes = {"gate.spec.golden": {"source": {"inline": [good, bad]}}, "gate.spec.thresholds": LEAVE_OUT}
    (message,) = said_of(tmp_path, family(changes))
    assert message.startswith("gate: golden case 2:")
    assert "prompt or messages" in message
    (diagnostic,) = validate(load_manifests([tmp_path]))
    lines = (tmp_path / "gate.yaml").read_text(encoding="utf-8").splitlines()
    assert '"id": "b"' in lines[diagnostic.line]


def test_inline_cases_may_be_pinned_too(tmp_path: Path) -> None:
    cases = [json.loads(line) for line in CASES.splitlines()]
    pinned = {"source": {"inline": cases}, "sha256": sha256_text(inline_golden(cases))}
    assert said_of(tmp_path, family({"gate.spec.golden": pinned})) == []


def test_a_bad_case_in_a_config_map_is_told_in_its_line(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: orders-golden-v1\ndata:\n  golden.jsonl: |\n"
    lines = [GOLDEN_TEXT.strip(), "", '{"id": "two"', '{"id": "one", "prompt": "a"}']
    files = family()
    del files["golden"], files["format"]
    files["job"]["spec"]["stages"][0].pop("gates")
    (tmp_path / "golden.yaml").write_text(text + "".join(f"    {line}\n" for line in lines), encoding="utf-8")
    files["gate"]["spec"]["golden"]["sha256"] = sha256_text("".join(f"{line}\n" for line in lines))
    said_of(tmp_path, files)

    found = validate(load_manifests([tmp_path]))
    assert [(d.file.name, d.line) for d in found] == [("golden.yaml", 9), ("golden.yaml", 10)]
    assert found[0].message.startswith("golden case in line 3: not JSON")
    assert found[1].message == "golden case in line 4: expect: Field required"


def test_problems_come_sorted_by_file_and_line(tmp_path: Path) -> None:
    said_of(
        tmp_path, family({"job.spec.colour": "red", "job.spec.gates.0.name": "odd", "gate.spec.dryRun": True})
    )
    found = validate(load_manifests([tmp_path]))
    assert [(d.file.name, d.line) for d in found] == sorted((d.file.name, d.line) for d in found)
    assert [d.file.name for d in found] == ["gate.yaml", "job.yaml", "job.yaml"]
    lines = (tmp_path / "job.yaml").read_text(encoding="utf-8").splitlines()
    assert '"name": "odd"' in lines[found[1].line - 1]
    assert '"colour": "red"' in lines[found[2].line - 1]


def test_what_is_only_worth_knowing_is_a_note(tmp_path: Path) -> None:
    said_of(tmp_path, family({"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}}))
    (note,) = validate(load_manifests([tmp_path]))
    assert note.severity == "note"
    assert str(note).endswith("pod.yaml:3: note: Pod a is ignored")


@pytest.mark.parametrize("part", ["spec", "spec.data", "spec.gates", "spec.taskMetrics", "spec.stages"])
@pytest.mark.parametrize("value", ["text", 7, None, [], ["a"], {}, {"a": 1}])
def test_jobs_that_are_half_wrong_do_not_crash(tmp_path: Path, part: str, value: object) -> None:
    assert said_of(tmp_path, family({f"job.{part}": value}))


@pytest.mark.parametrize("part", ["spec", "spec.golden", "spec.golden.source", "spec.golden.source.inline"])
@pytest.mark.parametrize("value", ["text", 7, [], ["a"], [{}]])
def test_gates_that_are_half_wrong_do_not_crash(tmp_path: Path, part: str, value: object) -> None:
    assert said_of(tmp_path, family({f"gate.{part}": value}))


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("*/7b")), ids=lambda folder: folder.parent.name)
def test_an_example_with_its_manifest_for_7b_has_no_fault(folder: Path) -> None:
    others = [file for file in folder.parent.glob("*.yaml") if file.name != "finetunejob.yaml"]
    assert validate(load_manifests([*others, folder / "finetunejob.yaml"])) == []
