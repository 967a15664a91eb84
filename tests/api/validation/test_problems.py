"""The problems of invalid manifests: all at once, with their path and remedy."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.manifests import LEAVE_OUT, Changes, changed, evalgate, finetunejob, problem_messages, table
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.v1alpha2 import EvalGate, FineTuneJob
from tunegate_api.validation.problems import Problem, find_problems

DATA = Path(__file__).parents[1] / "data"
STAGE = "spec.stages.0"


@pytest.mark.parametrize("manifest", [finetunejob(), evalgate()], ids=["FineTuneJob", "EvalGate"])
def test_valid_manifest_has_no_problems(manifest: dict[str, Any]) -> None:
    assert problem_messages(manifest) == []


@pytest.mark.parametrize(("manifest", "model"), [(finetunejob(), FineTuneJob), (evalgate(), EvalGate)])
def test_manifest_without_problems_can_be_parsed(
    manifest: dict[str, Any], model: type[FineTuneJob | EvalGate]
) -> None:
    assert model.model_validate(manifest).metadata.name == manifest["metadata"]["name"]


@pytest.mark.parametrize("field", ["labels", "annotations", "namespace", "ownerReferences"])
def test_null_metadata_can_be_parsed(field: str) -> None:
    empty = FineTuneJob.model_validate(changed(finetunejob(), {f"metadata.{field}": None}))
    assert empty.metadata == FineTuneJob.model_validate(finetunejob()).metadata


@pytest.mark.parametrize("name", ["finetunejob.yaml", "evalgate.yaml"])
def test_full_manifest_is_valid(name: str) -> None:
    manifest = yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
    assert problem_messages(manifest) == []


def test_full_golden_set_can_be_parsed() -> None:
    cases = parse_cases((DATA / "golden.jsonl").read_text(encoding="utf-8"), GoldenCase)
    assert [case.id for case in cases] == ["total-eur", "not-an-invoice"]


GOOD: list[tuple[str, Changes]] = [
    ("a minimal job", {"spec.evaluation": LEAVE_OUT, "spec.resources": LEAVE_OUT}),
    ("steps instead of epochs", {f"{STAGE}.training": {"maxSteps": 100}}),
    ("steps between checkpoints", {"spec.evaluation.every": 10}),
    ("a GPU", {"spec.resources": {"gpu": {"count": 1}, "memory": "48Gi"}}),
    ("all linear layers", {f"{STAGE}.adapter.targetModules": ["all-linear"]}),
    ("layers by name", {f"{STAGE}.adapter.targetModules": ["q_proj", "v_proj"]}),
    ("a data set of a hub", {"spec.data.sources.0": {"name": "train", "uri": "hf://datasets/org/orders@v1"}}),
    (
        "a folder of a data set",
        {"spec.data.sources.0": {"name": "train", "uri": "hf://datasets/org/orders/data"}},
    ),
    ("a folder in a bucket", {"spec.data.sources.0": {"name": "train", "uri": "s3://bucket/orders/"}}),
    ("a claim with dots", {"spec.publish.0.uri": "pvc://models.team-a/orders"}),
    (
        "objects whose names have dots",
        {
            "spec.data.sources.0": {"name": "train", "configMap": "orders.v2"},
            "spec.storage.persistentVolumeClaim": "tuning.fast",
            "spec.model.secretName": "hub.token",
            "spec.podTemplate": {
                "serviceAccountName": "tuning.team-a",
                "imagePullSecrets": [{"name": "registry.internal"}],
                "priorityClassName": "batch.low",
            },
        },
    ),
    ("the prompt column as the id column", {"spec.data.sources.0.columns": {"prompt": "text", "id": "text"}}),
    (
        "a schema of schemas",
        {
            "spec.taskMetrics.0.schema.inline": {
                "type": ["object", "null"],
                "properties": {"type": {"type": "string"}, "rows": {"items": {"type": "integer"}}},
                "additionalProperties": False,
                "anyOf": [{"required": ["type"]}, True],
                "enum": [{"type": "odd"}],
            }
        },
    ),
    (
        "arguments of a chat template",
        {"spec.model.chatTemplateArgs": {"enable_thinking": False, "effort": "low", "top_k": 5, "t": 0.5}},
    ),
    ("a job that is suspended", {"spec.suspend": True}),
    (
        "data on a volume",
        {"spec.data.sources.0": {"name": "train", "uri": "pvc://datasets/a/b.jsonl", "sha256": "0" * 64}},
    ),
    ("data in a file", {"spec.data.sources.0": {"name": "train", "uri": "file://orders.jsonl"}}),
    ("a schema in a ConfigMap", {"spec.taskMetrics.0.schema": {"configMap": "schemas", "key": "a.json"}}),
    ("half of the rows held out", {"spec.data.heldOut.fraction": "50%"}),
    ("an explicit null", {"spec.tracking": None}),
    ("status and server-side metadata", {"status": {"phase": "Odd"}, "metadata.managedFields": [{}]}),
    ("a namespace", {"metadata.namespace": "team-a"}),
    ("labels and annotations", {"metadata.labels": {"team": "a"}, "metadata.annotations": {"a/b": "7"}}),
    ("empty annotations", {"metadata.annotations": None, "metadata.labels": None}),
]


@pytest.mark.parametrize("changes", [row[1] for row in GOOD], ids=[row[0] for row in GOOD])
def test_valid_job_has_no_problems(changes: Changes) -> None:
    assert problem_messages(changed(finetunejob(), changes)) == []


CRITICAL = {"name": "critical", "cases": ["edge"], "minPassRate": "100%"}
GOOD_GATES: list[tuple[str, Changes]] = [
    ("a minimal gate", {"spec.sets.0.rules": LEAVE_OUT, "spec.compareWith": LEAVE_OUT}),
    (
        "only a pass rate",
        {"spec.sets.0.rules": [{"name": "all", "minPassRate": "90%"}], "spec.compareWith": []},
    ),
    (
        "only critical cases",
        {"spec.sets.0.rules.0": CRITICAL, "spec.sets.0.rules.1": LEAVE_OUT, "spec.compareWith": []},
    ),
    (
        "only a pinned version",
        {
            "spec.sets.0.rules": [{"name": "all", "maxNewFailures": 3}],
            "spec.compareWith": [
                {
                    "type": "Version",
                    "version": {"uri": "pvc://models/orders/orders-1a2b3", "digest": "c" * 64},
                }
            ],
        },
    ),
    (
        "only an endpoint",
        {
            "spec.sets.0.rules": [{"name": "all", "maxNewFailures": 3}],
            "spec.compareWith": [
                {
                    "type": "Endpoint",
                    "endpoint": {"url": "https://serving.internal/v1", "model": "extractor"},
                }
            ],
        },
    ),
    (
        "only the last published version",
        {"spec.sets.0.rules": LEAVE_OUT, "spec.compareWith": [{"type": "LastPublished"}]},
    ),
]


@pytest.mark.parametrize("changes", [row[1] for row in GOOD_GATES], ids=[row[0] for row in GOOD_GATES])
def test_valid_gate_has_no_problems(changes: Changes) -> None:
    assert problem_messages(changed(evalgate(), changes)) == []


OBJECTS: list[tuple[str, Changes, str]] = [
    ("no name", {"metadata": {}}, "metadata.name: missing: give the object a name"),
    ("no metadata", {"metadata": LEAVE_OUT}, "metadata.name: missing: give the object a name"),
    (
        "a name with dots",
        {"metadata.name": "orders.v2"},
        'metadata.name: is "orders.v2": must be lower-case letters, digits and dashes, without a',
    ),
    ("too long a name", {"metadata.name": "a" * 64}, f'metadata.name: is "{"a" * 64}": must be lower-case'),
    (
        "another version",
        {"apiVersion": "tunegate.dev/v2"},
        'apiVersion: is "tunegate.dev/v2": must be',
    ),
    ("another kind", {"kind": "Job"}, 'kind: is "Job": must be one of EvalGate, FineTuneJob'),
    (
        "a misspelled kind",
        {"kind": "FinetuneJob"},
        'kind: is "FinetuneJob", did you mean FineTuneJob? Must be one of EvalGate, FineTuneJob',
    ),
    ("no kind", {"kind": LEAVE_OUT}, "kind: missing: must be EvalGate or FineTuneJob"),
    ("no version", {"apiVersion": LEAVE_OUT}, "apiVersion: missing: must be tunegate.dev/v1alpha2"),
    ("metadata that is text", {"metadata": "orders"}, "metadata: must be a mapping with the name"),
    ("a name that is a number", {"metadata.name": 7}, 'metadata.name: must be text: write "7", with the'),
    (
        "an invalid namespace",
        {"metadata.namespace": "Team A"},
        'metadata.namespace: is "Team A": must be lower-case letters, digits and dashes, without a',
    ),
    (
        "a namespace that is a number",
        {"metadata.namespace": 12},
        'metadata.namespace: must be text: write "12", with the quotes',
    ),
    (
        "a label that is a number",
        {"metadata.labels": {"version": 2}},
        'metadata.labels.version: must be text: write "2", with the quotes',
    ),
    (
        "an annotation that is a boolean",
        {"metadata.annotations": {"a/b": True}},
        'metadata.annotations.a/b: must be text: write "true", with the quotes',
    ),
    (
        "a label that is a list",
        {"metadata.labels": {"team": ["a"]}},
        "metadata.labels.team: must be text, not a list",
    ),
    (
        "annotations that are a list",
        {"metadata.annotations": ["a"]},
        "metadata.annotations: must be a mapping of names to texts: write NAME: TEXT below it",
    ),
    (
        "a misspelled top-level field",
        {"sepc": {}},
        "sepc: unknown field, did you mean spec? Known",
    ),
    ("no spec", {"spec": LEAVE_OUT}, "spec: missing: it must hold the fields"),
    (
        "a spec that is text",
        {"spec": "all"},
        "spec: not a mapping: it must hold the fields",
    ),
]


@table(OBJECTS)
def test_invalid_metadata_or_kind_is_reported(changes: Changes, message: str) -> None:
    problems = problem_messages(changed(finetunejob(), changes))
    assert [problem for problem in problems if problem.startswith(message)], problems


def test_all_problems_are_reported_at_once_in_field_order() -> None:
    wrong = changed(
        finetunejob(),
        {
            "spec.data.goal": "Fun",
            "spec.stages.0.training": {"epochs": 1, "maxSteps": 2, "learningRate": 0.1, "beta": "1"},
            "spec.stages.0.colour": "red",
            "spec.queueNames": "team-a",
            "spec.storage": LEAVE_OUT,
        },
    )
    assert [problem.where for problem in find_problems(wrong)] == [
        "spec.storage",
        "spec.data.goal",
        "spec.stages[0].training.maxSteps",
        "spec.stages[0].training.learningRate",
        "spec.stages[0].training.beta",
        "spec.stages[0].colour",
        "spec.queueNames",
    ]


def test_field_of_an_earlier_version_is_refused_with_its_replacement() -> None:
    gate = changed(evalgate(), {"spec.dryRun": True, "spec.approval": "Required"})
    assert problem_messages(gate) == [
        "spec.dryRun: unknown field, replaced by enforcement: DryRun",
        'spec.approval: is "Required": must be one of Never, WhenPassed, WhenFailed, Always',
    ]
    job = changed(finetunejob(), {"spec.mergeAdapter": True, "spec.evaluateEvery": {"steps": 5}})
    assert problem_messages(job) == [
        "spec.mergeAdapter: unknown field, replaced by artifact: {form: Merged}",
        "spec.evaluateEvery: unknown field, replaced by evaluation: {every: 20%}, or a number of steps",
    ]


def test_batches_of_a_gate_are_refused_with_the_job_field() -> None:
    names = ("batchSize", "batching", "precision")
    gate = changed(evalgate(), {f"spec.generation.{name}": "Auto" for name in names})
    assert problem_messages(gate) == [
        f"spec.generation.{name}: unknown field, replaced by evaluation.{name} of the FineTuneJob"
        for name in names
    ]


def test_comparisons_of_an_earlier_version_are_refused_with_compare_with() -> None:
    gate = changed(evalgate(), {"spec.baselines": ["BaseModel"], "spec.anchor": {}, "spec.served": {}})
    assert problem_messages(gate) == [
        "spec.baselines: unknown field, replaced by compareWith: [{type: BaseModel}, {type: LastPublished}]",
        "spec.anchor: unknown field, replaced by "
        "compareWith: [{type: Version, version: {uri: ..., digest: ...}}]",
        "spec.served: unknown field, replaced by "
        "compareWith: [{type: Endpoint, endpoint: {url: ..., model: ...}}]",
    ]


def test_servers_of_an_earlier_version_are_refused_with_graders() -> None:
    gate = changed(evalgate(), {"spec.judge": {}, "spec.guardrail": {}, "spec.sets.0.scorer": {}})
    assert problem_messages(gate) == [
        "spec.sets[0].scorer: unknown field, replaced by grader, the name of an entry of graders",
        "spec.judge: unknown field, replaced by "
        "graders: [{name: judge, type: Model, endpoint: ..., agreement: {set: ...}}]",
        "spec.guardrail: unknown field, replaced by "
        "graders: [{name: guard, type: Guardrail, endpoint: ..., protocol: ...}]",
    ]
    job = changed(finetunejob(), {"spec.data.quality": {"review": "Judge", "judge": {}}})
    assert problem_messages(job) == [
        "spec.data.quality.review: unknown field, replaced by "
        "grader: leave it out if people score the sample",
        "spec.data.quality.judge: unknown field, replaced by "
        "grader: {gate: ..., name: ...}, a grader of an EvalGate",
    ]


def test_v1alpha1_manifest_names_new_version_and_every_new_field() -> None:
    source = {"configMap": "invoice-golden-v1"}
    spec = {
        "golden": {"source": source},
        "thresholds": {"minPassRate": "0.9"},
        "baselines": ["BaseModel"],
        "anchor": {"uri": "pvc://models/invoices/1"},
        "served": {"url": "https://serving.internal/v1"},
        "judge": {"rubric": "Polite."},
        "guardrail": {"protocol": "LlamaGuard"},
        "safety": {"source": source},
        "calibration": {"repeats": 4},
        "override": "Allowed",
        "dryRun": False,
    }
    gate = {
        "apiVersion": "tunegate.dev/v1alpha1",
        "kind": "EvalGate",
        "metadata": {"name": "a"},
        "spec": spec,
    }
    version, *fields = [message for message in problem_messages(gate) if "spec.sets: missing" not in message]
    assert version == 'apiVersion: is "tunegate.dev/v1alpha1": must be tunegate.dev/v1alpha2'
    assert [field.partition(": unknown field, replaced by ")[0] for field in fields] == [
        f"spec.{name}" for name in spec
    ]


def test_earlier_form_of_data_checks_names_its_replacement() -> None:
    job = changed(finetunejob(), {"spec.data.checks": {"leakage": {"maxShare": "0"}}})
    assert problem_messages(job) == [
        "spec.data.checks: must be a list, replaced by a list of checks by name, such as "
        "- {name: BadRows, policy: Warn, max: 2%}"
    ]
    job = changed(finetunejob(), {"spec.data.checks": [{"name": "leakage", "maxShare": "0"}]})
    messages = problem_messages(job)
    assert messages[0].startswith('spec.data.checks[0].name: is "leakage", did you mean Leakage?')
    assert messages[1] == "spec.data.checks[0].maxShare: unknown field, replaced by max"


def test_earlier_form_of_data_sources_names_its_replacement() -> None:
    earlier = {"train": {}, "mix": [], "preference": {}, "production": {}}
    job = changed(finetunejob(), {f"spec.data.{name}": value for name, value in earlier.items()})
    assert problem_messages(job) == [
        "spec.data.train: unknown field, replaced by an entry of sources, such as "
        "- {name: invoices, uri: pvc://CLAIM/PATH}",
        "spec.data.mix: unknown field, replaced by entries of sources, such as "
        '- {name: chats, use: Mix, weight: "0.5"}',
        "spec.data.preference: unknown field, replaced by an entry of sources, such as "
        "- {name: ranked, use: Preference}",
        "spec.data.production: unknown field, replaced by an entry of sources, such as "
        "- {name: requests, use: Production}",
    ]


@pytest.mark.parametrize("value", ["LoRA", ["a"], 7, True])
def test_value_of_the_wrong_type_is_reported_once(value: object) -> None:
    problems = problem_messages(changed(finetunejob(), {f"{STAGE}.adapter": value}))
    assert len(problems) == 1, problems
    assert problems[0].startswith("spec.stages[0].adapter: must be a mapping")


def test_field_of_the_wrong_type_is_not_reported_as_missing() -> None:
    assert problem_messages(changed(finetunejob(), {"spec.model.uri": 7})) == [
        'spec.model.uri: must be text: write "7", with the quotes'
    ]


def test_validator_does_not_crash_on_any_value_in_any_field() -> None:
    def paths(value: Any, path: str) -> list[str]:
        keys: list[Any] = list(value) if isinstance(value, dict) else []
        keys = list(range(len(value))) if isinstance(value, list) else keys
        return [path, *(inner for key in keys for inner in paths(value[key], f"{path}.{key}"))]

    anything: list[Any] = [None, 3, "", "x", [], {}, [None], [[]], [{}], {"a": {}}, True, 1.5]
    for manifest in (finetunejob(), evalgate()):
        for path in paths(manifest["spec"], "spec"):
            for value in anything:
                problems = find_problems(changed(manifest, {path: value}))
                assert all(problem.where and problem.message for problem in problems), (path, value)


def test_problem_is_printed_as_path_and_message() -> None:
    problem = Problem(("spec", "stages", 0, "adapter"), "is odd")
    assert problem.where == "spec.stages[0].adapter"
    assert str(problem) == "spec.stages[0].adapter: is odd"
