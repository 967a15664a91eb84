"""Checks between manifests, reported with file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.graders import GUARDRAIL, JUDGE, PEOPLE
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
from tunegate_api.cases.case_lines import inline_text
from tunegate_api.contract.digests import sha256_text
from tunegate_client.manifest_checks import validate
from tunegate_client.manifests import load_manifests

EXAMPLES = Path(__file__).parents[1] / "examples"
CASES = GOLDEN_TEXT + "".join(
    json.dumps({"id": f"case-{n}", "prompt": f"hi {n}", "expect": [{"type": "equals", "value": "ho"}]}) + "\n"
    for n in range(2, 31)
)
JUDGED = [{"id": f"case-{n}", "prompt": "hi", "expect": [{"type": "judge"}]} for n in range(20)]
"""Golden cases that need a judge."""


COMPARES = [{"name": "all", "failAtDrop": "20%"}]
MINIMUM = [{"name": "all", "minPassRate": "80%"}]


def family(changes: Changes | None = None) -> dict[str, dict[str, Any]]:
    """Return a job and all objects that it references, by file name. Paths of ``changes`` begin with the file
    name."""
    files = {
        "job": finetunejob(),
        "gate": changed(evalgate(), {"spec.sets.0.sha256": sha256_text(CASES)}),
        "format": changed(evalgate("orders-format"), {"spec.sets.0.sha256": sha256_text(CASES)}),
        "data": config_map("orders-data", {"train.jsonl": '{"prompt": "a", "completion": "b"}\n'}),
        "golden": config_map("orders-golden-v1", {"golden.jsonl": CASES}),
    }
    return changed(files, changes or {})


def messages_of(folder: Path, files: dict[str, dict[str, Any]]) -> list[str]:
    """Return the diagnostics of the files as ``file: message``. The files are JSON, which is also YAML."""
    for name, manifest in files.items():
        (folder / f"{name}.yaml").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return [f"{d.file.stem}: {d.message}" for d in validate(load_manifests([folder]))]


def test_consistent_manifests_have_no_diagnostics(tmp_path: Path) -> None:
    assert messages_of(tmp_path, family()) == []


def test_gate_without_a_minimum_is_noted(tmp_path: Path) -> None:
    (note,) = messages_of(tmp_path, family({"gate.spec.sets.0.rules": COMPARES}))
    assert note.startswith("gate: no rule can fail if the models in compareWith pass few golden cases")


@pytest.mark.parametrize(("tokens", "count"), [(32, 1), (99, 1), (100, 0)])
def test_few_tokens_for_the_builtin_safety_set_are_noted(tmp_path: Path, tokens: int, count: int) -> None:
    files = family({"gate.spec.generation.maxNewTokens": tokens})
    sets = files["gate"]["spec"]["sets"]
    sets[:] = [each for each in sets if each["name"] == "golden"]
    sets.append({"name": "safety", "kind": "Safety", "source": {"builtin": "refusals-v1"}})
    found = messages_of(tmp_path, files)
    assert len(found) == count
    assert all("tokens are too few for the safety set" in each for each in found)


def test_config_map_key_that_begins_with_a_dot_is_ignored(tmp_path: Path) -> None:
    files = family({"gate.spec.sets.0.source.key": LEAVE_OUT})
    files["golden"]["data"][".notes"] = "not a golden set"
    assert messages_of(tmp_path, files) == []


CHECKS: list[tuple[str, Changes, str]] = [
    (
        "a missing gate",
        {"job.spec.gates.0.name": "odd"},
        "job: no EvalGate odd in these files; found: orders-format, orders-golden",
    ),
    (
        "a missing gate of a stage",
        {"job.spec.stages.0.gates.0.name": "odd"},
        "job: no EvalGate odd in these files",
    ),
    (
        "a gate in another namespace",
        {"gate.metadata.namespace": "team-b"},
        "job: EvalGate orders-golden is in namespace team-b, but this manifest is in default",
    ),
    (
        "a missing data ConfigMap",
        {"job.spec.data.sources.0.configMap": "odd"},
        "job: no ConfigMap odd in these files; found: orders-data, orders-golden-v1",
    ),
    (
        "a missing ConfigMap of mixed rows",
        {"job.spec.data.sources.1": {"name": "chats", "use": "Mix", "configMap": "chats"}},
        "job: no ConfigMap chats in these files; found: orders-data, orders-golden-v1",
    ),
    (
        "a missing grader of the data",
        {"job.spec.data.quality": {"grader": {"gate": "orders-golden", "name": "judge"}}},
        "job: EvalGate orders-golden has no grader judge with type: Model and agreement; found: none",
    ),
    (
        "a missing key of the data",
        {"job.spec.data.sources.0.key": "odd.jsonl"},
        "job: ConfigMap orders-data has no key odd.jsonl; it has: train.jsonl",
    ),
    (
        "data with two keys and no key set",
        {"job.spec.data.sources.0.key": LEAVE_OUT, "data.data.b": "text"},
        "job: ConfigMap orders-data has keys: b, train.jsonl; set key to one of them",
    ),
    (
        "an empty data ConfigMap",
        {"job.spec.data.sources.0.key": LEAVE_OUT, "data.data": LEAVE_OUT},
        "job: ConfigMap orders-data has no data",
    ),
    (
        "data with another digest",
        {"job.spec.data.sources.0.sha256": "0" * 64},
        "job: spec.data.sources[0].sha256 does not match the content, whose digest is "
        + sha256_text('{"prompt": "a", "completion": "b"}\n'),
    ),
    (
        "a missing schema ConfigMap",
        {"job.spec.taskMetrics.0.schema": {"configMap": "odd"}},
        "job: no ConfigMap odd in these files",
    ),
    (
        "a schema that is not JSON",
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
        "a schema with an unknown type",
        {
            "job.spec.taskMetrics.0.schema": {"configMap": "orders-schema"},
            "schema": config_map("orders-schema", {"schema.json": '{"items": {"type": "text"}}'}),
        },
        "schema: in the schema items.type: must be one of array, boolean,",
    ),
    (
        "a schema that cannot be parsed",
        {
            "job.spec.taskMetrics.0.schema": {"configMap": "orders-schema"},
            "schema": config_map("orders-schema", {"schema.json": "9" * 5000}),
        },
        "schema: the schema cannot be read: ",
    ),
    (
        "golden cases with another digest",
        {"gate.spec.sets.0.sha256": "0" * 64},
        f"gate: spec.sets[0].sha256 does not match the content, whose digest is {sha256_text(CASES)}",
    ),
    (
        "a missing golden ConfigMap",
        {"gate.spec.sets.0.source.configMap": "odd"},
        "gate: no ConfigMap odd in these files",
    ),
    (
        "a critical tag without cases",
        {"gate.spec.sets.0.rules.1.cases.1": "odd"},
        "gate: no golden case that counts has the id or the tag odd",
    ),
    (
        "too few cases for the threshold",
        {"gate.spec.sets.0.rules.0.failAtDrop": "2%"},
        "gate: 30 golden cases are too few to detect a drop of 2 points, so no model can pass: have at least",
    ),
    (
        "too few cases that are not sealed",
        {"gate.spec.sets.0.sealed": "50%"},
        "gate: checkpoints are evaluated on the 15 cases that are not sealed, and 15 golden cases are too",
    ),
    (
        "a golden case that needs a judge which is null",
        {
            "gate.spec.sets.0": {"name": "golden", "source": {"inline": JUDGED}},
            "gate.spec.graders": None,
        },
        "gate: spec.graders: the expectation judge of the golden cases case-0, case-1",
    ),
    (
        "a golden case that needs a missing judge",
        {"gate.spec.sets.0": {"name": "golden", "source": {"inline": JUDGED}}},
        "gate: spec.graders: the expectation judge of the golden cases case-0, case-1",
    ),
    (
        "a missing ConfigMap with calibration rows of a gate",
        {"gate.spec.sets.1": PEOPLE, "gate.spec.graders": [JUDGE]},
        "gate: no ConfigMap scored in these files; found: orders-data, orders-golden-v1",
    ),
    (
        "an answer for a guardrail without the score of people",
        {
            "gate.spec.sets.1": PEOPLE | {"source": {"inline": [{"prompt": "a", "answer": "b"}]}},
            "gate.spec.graders": [GUARDRAIL | {"agreement": {"set": "people"}}],
        },
        "gate: spec.sets[1].source.inline[0]: good: Field required",
    ),
    (
        "answers for a guardrail that are all good",
        {
            "gate.spec.sets.1": PEOPLE
            | {"source": {"inline": [{"prompt": "a", "answer": "b", "good": True}]}},
            "gate.spec.graders": [GUARDRAIL | {"agreement": {"set": "people"}}],
        },
        "gate: spec.sets[1].source.inline: a guardrail is tested with good and bad answers",
    ),
    (
        "a ConfigMap value that is not text",
        {"data.data.number": 5},
        "data: data.number must be text: write it below `number: |`",
    ),
    (
        "a ConfigMap with an invalid name",
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
        "ConfigMap data that is text",
        {"data.data": "all"},
        "data: data must be a mapping of keys to text",
    ),
    (
        "an invalid ConfigMap key",
        {"data.data.a b": "text"},
        'data: data: "a b" must be a key of a ConfigMap: letters, digits, dots, dashes and underscores',
    ),
    (
        "a ConfigMap that is too large",
        {"data.data.more": "é" * (512 * 1024)},
        "data: data has 1,048,611 bytes, and a ConfigMap takes at most 1,048,576: put the file on a volume",
    ),
    (
        "a misspelled kind",
        {"job.kind": "FinetuneJob"},
        'job: kind: is "FinetuneJob", did you mean FineTuneJob? Must be one of EvalGate, FineTuneJob',
    ),
    (
        "a Tunegate version without a kind",
        {"job.kind": LEAVE_OUT},
        "job: kind: missing: must be EvalGate or FineTuneJob",
    ),
    (
        "a Tunegate kind without a version",
        {"job.apiVersion": LEAVE_OUT},
        "job: apiVersion: missing: must be tunegate.dev/v1alpha2",
    ),
    (
        "an unknown kind of Tunegate",
        {"plan": {"apiVersion": "tunegate.dev/v1", "kind": "Plan", "metadata": {"name": "a"}}},
        'plan: kind: is "Plan": must be one of EvalGate, FineTuneJob',
    ),
    (
        "two jobs with the same name",
        {"job2": finetunejob()},
        "job2: FineTuneJob orders is already defined at ",
    ),
    (
        "a kind of another API",
        {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}},
        "pod: Pod a is ignored",
    ),
    (
        "a list of objects, as kubectl get writes it",
        {"list": {"apiVersion": "v1", "kind": "List", "items": [finetunejob()]}},
        "list: the items of a List are not read: write each as a document of its own",
    ),
    ("an unknown field", {"job.spec.colour": "red"}, "job: spec.colour: unknown field"),
]


@table(CHECKS)
def test_inconsistent_manifests_are_reported(tmp_path: Path, changes: Changes, message: str) -> None:
    plain = {path: value for path, value in changes.items() if "\\." not in path}
    files = family(plain)
    if "data.data.train\\.jsonl" in changes:
        files["data"]["data"]["train.jsonl"] = changes["data.data.train\\.jsonl"]
    messages = messages_of(tmp_path, files)
    assert [found for found in messages if found.startswith(message)], messages


def test_config_map_of_exactly_one_mebibyte_is_accepted(tmp_path: Path) -> None:
    size = len(family()["data"]["data"]["train.jsonl"])
    assert messages_of(tmp_path, family({"data.data.more": "a" * (1024 * 1024 - size)})) == []


def test_secret_is_checked_without_printing_its_values(tmp_path: Path) -> None:
    secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}}
    assert messages_of(tmp_path, family() | {"hub": secret | {"stringData": {"HF_TOKEN": "pa$$"}}}) == []
    wrong = secret | {"data": {"HF_TOKEN": "pa$$"}, "stringData": {"PORT": 1}}
    assert messages_of(tmp_path, family() | {"hub": wrong}) == [
        "hub: data.HF_TOKEN must be base64: use stringData for plain text",
        "hub: stringData.PORT must be text: write it below `PORT: |`",
    ]


def test_null_labels_and_annotations_are_accepted(tmp_path: Path) -> None:
    empty = {f"{file}.metadata.{field}": None for file in family() for field in ("labels", "annotations")}
    assert messages_of(tmp_path, family(empty)) == []
    for manifest in load_manifests([tmp_path]):
        assert manifest.obj["metadata"].keys() == {"name"}


@pytest.mark.parametrize(
    ("compared", "limit"),
    [([], LEAVE_OUT), ([{"type": "LastPublished"}], "2%")],
    ids=["nothing", "published"],
)
def test_small_golden_set_without_base_model_baseline_is_accepted(
    tmp_path: Path, compared: list[dict[str, str]], limit: object
) -> None:
    changes = {"gate.spec.sets.0.rules.0.failAtDrop": limit, "gate.spec.compareWith": compared}
    assert messages_of(tmp_path, family(changes)) == []


def test_invalid_inline_case_is_reported_with_its_line(tmp_path: Path) -> None:
    good = {"id": "a", "prompt": "hi", "expect": [{"type": "equals", "value": "ho"}]}
    bad = {"id": "b", "expect": [{"type": "equals", "value": "ho"}]}
    changes = {"gate.spec.sets.0": {"name": "golden", "source": {"inline": [good, bad]}, "rules": MINIMUM}}
    (message,) = messages_of(tmp_path, family(changes))
    assert message.startswith("gate: golden case 2:")
    assert "prompt or messages" in message
    (diagnostic,) = validate(load_manifests([tmp_path]))
    lines = (tmp_path / "gate.yaml").read_text(encoding="utf-8").splitlines()
    assert '"id": "b"' in lines[diagnostic.line]


def test_inline_cases_can_be_pinned_by_digest(tmp_path: Path) -> None:
    cases = [json.loads(line) for line in CASES.splitlines()]
    pinned = {"name": "golden", "source": {"inline": cases}, "sha256": sha256_text(inline_text(cases))}
    pinned["rules"] = MINIMUM
    assert messages_of(tmp_path, family({"gate.spec.sets.0": pinned})) == []


def test_invalid_golden_case_in_config_map_is_reported_with_line(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: orders-golden-v1\ndata:\n  golden.jsonl: |\n"
    lines = [GOLDEN_TEXT.strip(), "", '{"id": "two"', '{"id": "one", "prompt": "a"}']
    files = family()
    del files["golden"], files["format"]
    files["job"]["spec"]["stages"][0].pop("gates")
    (tmp_path / "golden.yaml").write_text(text + "".join(f"    {line}\n" for line in lines), encoding="utf-8")
    files["gate"]["spec"]["sets"][0]["sha256"] = sha256_text("".join(f"{line}\n" for line in lines))
    messages_of(tmp_path, files)

    found = validate(load_manifests([tmp_path]))
    assert [(d.file.name, d.line) for d in found] == [("golden.yaml", 9), ("golden.yaml", 10)]
    assert found[0].message.startswith("golden case in line 3: not JSON")
    assert found[1].message == "golden case in line 4: expect: Field required"


def test_diagnostics_are_sorted_by_file_and_line(tmp_path: Path) -> None:
    messages_of(
        tmp_path,
        family({"job.spec.colour": "red", "job.spec.gates.0.name": "odd", "gate.spec.sets.0.sealed": "2"}),
    )
    found = validate(load_manifests([tmp_path]))
    assert [(d.file.name, d.line) for d in found] == sorted((d.file.name, d.line) for d in found)
    assert [d.file.name for d in found] == ["gate.yaml", "job.yaml", "job.yaml"]
    lines = (tmp_path / "job.yaml").read_text(encoding="utf-8").splitlines()
    assert '"name": "odd"' in lines[found[1].line - 1]
    assert '"colour": "red"' in lines[found[2].line - 1]


def test_manifest_of_another_kind_is_reported_as_a_note(tmp_path: Path) -> None:
    messages_of(tmp_path, family({"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}}))
    (note,) = validate(load_manifests([tmp_path]))
    assert note.severity == "note"
    assert str(note).endswith("pod.yaml:3: note: Pod a is ignored")


@pytest.mark.parametrize("part", ["spec", "spec.data", "spec.gates", "spec.taskMetrics", "spec.stages"])
@pytest.mark.parametrize("value", ["text", 7, None, [], ["a"], {}, {"a": 1}])
def test_job_with_any_invalid_value_does_not_crash(tmp_path: Path, part: str, value: object) -> None:
    assert messages_of(tmp_path, family({f"job.{part}": value}))


@pytest.mark.parametrize(
    "part", ["spec", "spec.sets", "spec.sets.0", "spec.sets.0.source", "spec.sets.0.source.inline"]
)
@pytest.mark.parametrize("value", ["text", 7, [], ["a"], [{}]])
def test_gate_with_any_invalid_value_does_not_crash(tmp_path: Path, part: str, value: object) -> None:
    assert messages_of(tmp_path, family({f"gate.{part}": value}))


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("*/7b")), ids=lambda folder: folder.parent.name)
def test_example_with_its_7b_manifest_is_valid(folder: Path) -> None:
    others = [file for file in folder.parent.glob("*.yaml") if file.name != "finetunejob.yaml"]
    assert validate(load_manifests([*others, folder / "finetunejob.yaml"])) == []


SAFETY = {"name": "safety", "kind": "Safety"}
SAFETY_CASES = [
    {"id": f"rule-{n}", "kind": "Harmless" if n else "Unsafe", "category": "house", "prompt": f"request {n}"}
    for n in range(21)
]


def safety_messages(folder: Path, text: str, **safety: object) -> list[str]:
    """Return the diagnostics of a gate whose safety set is the ConfigMap ``house`` with this text."""
    files = family(
        {
            "gate.spec.sets.1": {
                **SAFETY,
                "source": {"configMap": "house"},
                "sha256": sha256_text(text),
                **safety,
            }
        }
    )
    files["house"] = config_map("house", {"safety.jsonl": text})
    return messages_of(folder, files)


def lines_of(cases: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(case) + "\n" for case in cases)


def test_valid_safety_set_has_no_diagnostics(tmp_path: Path) -> None:
    assert safety_messages(tmp_path, lines_of(SAFETY_CASES)) == []


def test_invalid_safety_case_is_reported_with_its_line(tmp_path: Path) -> None:
    text = lines_of([*SAFETY_CASES, {**SAFETY_CASES[0], "id": "odd", "kind": "Odd"}])
    (message,) = safety_messages(tmp_path, text)
    assert message == "house: safety case in line 22: kind: Input should be 'Unsafe' or 'Harmless'"


def test_inline_safety_cases_are_checked_with_their_lines(tmp_path: Path) -> None:
    def messages(cases: list[dict[str, Any]]) -> list[str]:
        return messages_of(tmp_path, family({"gate.spec.sets.1": SAFETY | {"source": {"inline": cases}}}))

    assert messages(SAFETY_CASES) == []
    assert messages([*SAFETY_CASES, {**SAFETY_CASES[0], "id": "odd", "kind": "Odd"}]) == [
        "gate: safety case 22: kind: Input should be 'Unsafe' or 'Harmless'"
    ]
    (few,) = messages(SAFETY_CASES[:20])
    assert few.startswith("gate: safety set: 19 cases of the kind Harmless are too few")


def test_safety_set_at_an_address_needs_only_its_digest(tmp_path: Path) -> None:
    safety: dict[str, Any] = SAFETY | {"source": {"uri": "s3://sets/safety.jsonl", "secretName": "store"}}
    pinned = safety | {"sha256": "0" * 64}
    assert messages_of(tmp_path, family({"gate.spec.sets.1": pinned})) == []
    (missing,) = messages_of(tmp_path, family({"gate.spec.sets.1": safety}))
    assert missing.startswith("gate: spec.sets[1]: give sha256, the digest of the set")


def test_too_small_missing_or_changed_safety_set_is_reported(tmp_path: Path) -> None:
    few = "gate: safety set: 19 cases of the kind Harmless are too few to detect an increase of 5 points"
    assert safety_messages(tmp_path, lines_of(SAFETY_CASES[:20]))[0].startswith(few)
    (missing,) = safety_messages(tmp_path, lines_of(SAFETY_CASES), source={"configMap": "odd"})
    assert missing.startswith("gate: no ConfigMap odd in these files")
    (changed_set,) = safety_messages(tmp_path, lines_of(SAFETY_CASES), sha256="0" * 64)
    assert changed_set.startswith("gate: spec.sets[1].sha256 does not match the content, whose digest is")
