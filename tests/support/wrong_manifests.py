"""A table of invalid manifests, at least one for each rule of the API.

Each has the changes of a valid manifest of ``support.manifests``, the field with the error, and the remedy in
the message. The API server and ``tunegate validate`` are tested with this table.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from support.graders import GUARDRAIL, JUDGE, PEOPLE, safety_judge
from support.manifests import LEAVE_OUT, Changes, changed, evalgate, finetunejob

STAGE = "spec.stages.0"
POD = "spec.podTemplate"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/trainer"
ENDPOINT = {"url": "https://guard.internal/v1", "model": "guard"}
INLINE_PEOPLE = PEOPLE | {
    "source": {
        "inline": [
            {"prompt": "Where?", "answer": text, "good": good}
            for text, good in (("Here.", True), ("No!", False))
        ]
    },
    "sha256": None,
}
PERCENTAGE = 'must be a percentage from 0% to 100%, such as "14%" instead of "0.14"'
NUMBER_OF_STEPS = "must be a number of steps from 1, or a percentage above 0%, up to 100%"
NUMBER_OF_CASES = "must be a number of cases from 0, or a percentage from 0% to 100%"
JUDGED = {"spec.sets.1": PEOPLE, "spec.graders": [JUDGE]}
"""Changes of an EvalGate that add a judge, and the answers that people scored."""
SAFETY = {"name": "safety", "kind": "Safety", "source": {"builtin": "refusals-v1"}}
DPO_STAGE = {"name": "dpo", "method": "DPO", "adapter": {"type": "LoRA"}}
SECOND_STAGE = {"name": "more", "method": "SFT", "adapter": {"from": "Previous"}}


def changed_grader(changes: Changes) -> Changes:
    """Return the changes of an EvalGate that add a judge with these changes."""
    return JUDGED | {"spec.graders": [changed(JUDGE, changes)]}


def changed_people(changes: Changes) -> Changes:
    """Return the changes of an EvalGate that add a judge, and an agreement set with these changes."""
    return JUDGED | {"spec.sets.1": changed(PEOPLE, changes)}


def pinned(uri: str) -> dict[str, Any]:
    return {"type": "Version", "version": {"uri": uri, "digest": "c" * 64}}


ALLOWED_ARGS = "may only have adam_beta1, adam_beta2, adam_epsilon, optim"
TRAINER_ARGS: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
    (
        "an argument of TRL that has a field of its own",
        {"learning_rate": "1e-4"},
        ALLOWED_ARGS,
        {
            "own_message": "use the field training.learningRate, or leave it out",
            "below": ".learning_rate",
        },
    ),
    (
        "an unsupported argument of TRL",
        {"packing": "true"},
        ALLOWED_ARGS,
        {"below": ".packing"},
    ),
    (
        "a number as an optimizer",
        {"optim": "0.1"},
        "optim must be adamw_torch, adamw_torch_fused or adafactor",
        {},
    ),
    *(
        (
            f"an optimizer as {name}",
            {name: "adafactor"},
            f"{name} must be a number, but its value is an optimizer: give the optimizer as optim",
            {},
        )
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon")
    ),
    *(
        (
            f"{name} beside Adafactor",
            {"optim": "adafactor", name: "0.5"},
            f"{name} is only for AdamW, but optim is adafactor: leave out {name} or optim",
            {},
        )
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon")
    ),
]


@dataclass(frozen=True)
class Wrong:
    """An invalid manifest."""

    name: str
    changes: Changes
    field: str
    """The field that the API server reports."""
    remedy: str
    """The remedy in the message."""
    own_message: str = ""
    """The message of ``tunegate validate``, if it differs from the API server's message."""
    below: str = ""
    """The path below ``field`` that ``tunegate validate`` reports, because it can name an entry of a list."""


@dataclass(frozen=True)
class Edit:
    """A change of an existing object."""

    name: str
    changes: Changes
    field: str = ""
    """The field that the API server reports, if the change is refused."""
    before: Changes = dataclasses.field(default_factory=dict)
    """Changes of the valid manifest before the edit."""


FINETUNEJOB = [
    # metadata
    Wrong(
        "a name with dots",
        {"metadata.name": "Orders.v1"},
        "metadata.name",
        "must be lower-case letters, digits and dashes",
    ),
    Wrong(
        "a name that is too long",
        {"metadata.name": "a" * 64},
        "metadata.name",
        "may not be more than 63",
        "at most 63",
    ),
    # model
    Wrong(
        "a model without a source", {"spec.model": {}}, "spec.model", "give exactly one of uri and startFrom"
    ),
    Wrong(
        "a model from two sources",
        {"spec.model.startFrom": "orders-v1"},
        "spec.model",
        "give exactly one of uri and startFrom",
        below=".startFrom",
    ),
    Wrong(
        "a model without a scheme",
        {"spec.model.uri": "Qwen/Qwen2.5-7B"},
        "spec.model.uri",
        "must be an address with its scheme, such as pvc://CLAIM/PATH or package://NAME",
    ),
    Wrong(
        "a model with an unknown scheme",
        {"spec.model.uri": "ftp://models/base"},
        "spec.model.uri",
        "must begin with hf://, s3://, oci://, pvc://, file:// or package://",
    ),
    Wrong(
        "a hub model without a revision",
        {"spec.model": {"uri": "hf://org/base"}},
        "spec.model",
        "the content of an hf:// repository can change: give revision, the commit to pin",
    ),
    Wrong(
        "a commit in the address of a model",
        {"spec.model": {"uri": "hf://org/base@main", "revision": "main"}},
        "spec.model.uri",
        "must name a repository, hf://ORG/NAME: give the commit as revision",
    ),
    Wrong(
        "a model address without a folder",
        {"spec.model.uri": "s3://models"},
        "spec.model.uri",
        "must name a bucket and a folder in it, s3://BUCKET/PREFIX",
    ),
    Wrong(
        "an OCI artifact without a tag or digest",
        {"spec.model.uri": "oci://registry.internal:5000/team/base"},
        "spec.model.uri",
        "must name an artifact with a tag or a digest, oci://REGISTRY/NAME:TAG",
    ),
    Wrong(
        "a revision of an OCI artifact",
        {"spec.model": {"uri": "oci://registry.internal/team/base:v1", "revision": "v1"}},
        "spec.model.revision",
        "the tag or digest is part of the oci:// address: leave it out",
    ),
    Wrong(
        "a volume address without a path",
        {"spec.model.uri": "pvc://models"},
        "spec.model.uri",
        "must name a claim and a path in it, pvc://CLAIM/PATH",
    ),
    Wrong(
        "an invalid claim name",
        {"spec.model.uri": "pvc://My_Claim/base"},
        "spec.model.uri",
        "the claim must be lower-case letters, digits, dashes and dots",
    ),
    Wrong(
        "a claim name that is too long",
        {"spec.model.uri": f"pvc://{'c' * 254}/base"},
        "spec.model.uri",
        "the claim must have at most 253 characters",
    ),
    Wrong(
        "a path outside its volume",
        {"spec.model.uri": "pvc://models/../secrets"},
        "spec.model.uri",
        'the path must stay inside the claim, without ".."',
    ),
    Wrong(
        "a model in the folder of another job",
        {"spec.model.uri": "pvc://tuning/tunegate/jobs/0f7c9d1e/model"},
        "spec.model.uri",
        "the path must not lead into the folder tunegate of a claim",
    ),
    Wrong(
        "a digest of the model of another job",
        {"spec.model": {"startFrom": "orders-1", "sha256": "c" * 64}},
        "spec.model.sha256",
        "sha256 pins the model at uri, and the model of startFrom is pinned by its job",
    ),
    Wrong(
        "a revision of a model on a volume",
        {"spec.model.revision": "main"},
        "spec.model.revision",
        "package://, file://, pvc:// and s3:// have no revision: leave it out",
    ),
    Wrong(
        "credentials for a model from another job",
        {"spec.model": {"startFrom": "orders-v1", "secretName": "hub-token"}},
        "spec.model.secretName",
        "is for the credentials of uri: give uri, or leave secretName out",
    ),
    Wrong(
        "a job that starts from itself",
        {"spec.model": {"startFrom": "orders"}},
        "spec.model.startFrom",
        "a job cannot start from itself: name the job that trained the model",
    ),
    # trainerArgs
    Wrong(
        "an unsupported optimizer",
        {f"{STAGE}.training.trainerArgs": {"optim": "sgd"}},
        "spec.stages[0].training.trainerArgs",
        "optim must be adamw_torch, adamw_torch_fused or adafactor",
        own_message="must be the name of an optimizer, or a number in quotes of at least 0 and below 1",
        below=".optim",
    ),
    *(
        Wrong(
            name,
            {f"{STAGE}.training.trainerArgs": arguments},
            "spec.stages[0].training.trainerArgs",
            remedy,
            **more,
        )
        for name, arguments, remedy, more in TRAINER_ARGS
    ),
    # data
    Wrong("no goal", {"spec.data.goal": LEAVE_OUT}, "spec.data.goal", "Required value", "missing"),
    Wrong(
        "an unknown goal",
        {"spec.data.goal": "Chat"},
        "spec.data.goal",
        'supported values: "StyleOrFormat", "DomainVocabulary", "TaskSpecialization", "InstructionFollowing"',
        "must be one of StyleOrFormat, DomainVocabulary, TaskSpecialization, InstructionFollowing",
    ),
    Wrong(
        "data without a source",
        {"spec.data.sources.0": {"name": "train"}},
        "spec.data.sources[0]",
        "give exactly one of uri and configMap",
    ),
    Wrong(
        "data from two sources",
        {"spec.data.sources.0.uri": "pvc://datasets/orders.jsonl"},
        "spec.data.sources[0]",
        "give exactly one of uri and configMap",
        below=".configMap",
    ),
    Wrong(
        "data with a scheme that is only for models",
        {"spec.data.sources.0": {"name": "train", "uri": "oci://registry.internal/orders:v1"}},
        "spec.data.sources[0].uri",
        "must begin with pvc://, file://, hf://, s3://, https:// or http://",
    ),
    Wrong(
        "an address of data with a password",
        {"spec.data.sources.0": {"name": "train", "uri": "https://user:password@data.internal/orders.jsonl"}},
        "spec.data.sources[0].uri",
        "must name a file, https://HOST/PATH, without credentials: name their Secret as secretName",
    ),
    Wrong(
        "a folder on a web server as data",
        {"spec.data.sources.0": {"name": "train", "uri": "https://data.internal/orders/"}},
        "spec.data.sources[0].uri",
        "must name a file, https://HOST/PATH, without credentials: name their Secret as secretName",
    ),
    Wrong(
        "a bucket without a path as data",
        {"spec.data.sources.0": {"name": "train", "uri": "s3://bucket"}},
        "spec.data.sources[0].uri",
        "must name a path in a bucket, s3://BUCKET/PATH",
    ),
    Wrong(
        "hub data that is not a data set",
        {"spec.data.sources.0": {"name": "train", "uri": "hf://org/orders"}},
        "spec.data.sources[0].uri",
        "must name a data set, hf://datasets/ORG/NAME[/PATH]",
    ),
    Wrong(
        "a key without a ConfigMap",
        {
            "spec.data.sources.0": {
                "name": "train",
                "uri": "pvc://datasets/orders.jsonl",
                "key": "train.jsonl",
            }
        },
        "spec.data.sources[0].key",
        "key is an entry of a ConfigMap: give configMap, or leave key out",
    ),
    Wrong(
        "an invalid ConfigMap key",
        {"spec.data.sources.0.key": "train/rows"},
        "spec.data.sources[0].key",
        "must be a key of a ConfigMap: letters, digits, dots, dashes and underscores",
    ),
    Wrong(
        "an invalid ConfigMap name",
        {"spec.data.sources.0.configMap": "Orders"},
        "spec.data.sources[0].configMap",
        "must be lower-case letters, digits, dashes and dots",
    ),
    Wrong(
        "credentials for data in a ConfigMap",
        {"spec.data.sources.0.secretName": "bucket"},
        "spec.data.sources[0].secretName",
        "is for the credentials of uri: give uri, or leave secretName out",
    ),
    Wrong(
        "a digest that is too short",
        {"spec.data.sources.0.sha256": "4be10c2a"},
        "spec.data.sources[0].sha256",
        "must be the 64 hexadecimal digits that sha256sum prints",
    ),
    Wrong(
        "columns for chats and prompts",
        {"spec.data.sources.0.columns": {"messages": "chat", "prompt": "text"}},
        "spec.data.sources[0].columns.messages",
        "messages already includes prompt and completion: leave out messages, or prompt and completion",
    ),
    Wrong(
        "columns for chats and completions",
        {"spec.data.sources.0.columns": {"messages": "chat", "completion": "json"}},
        "spec.data.sources[0].columns.messages",
        "messages already includes prompt and completion: leave out messages, or prompt and completion",
    ),
    Wrong(
        "a column of chosen answers in training rows",
        {"spec.data.sources.0.columns": {"chosen": "better"}},
        "spec.data.sources[0].columns.chosen",
        "is a field of preference data: leave it out, or set use: Preference",
    ),
    Wrong(
        "a column of rejected answers in training rows",
        {"spec.data.sources.0.columns": {"rejected": "worse"}},
        "spec.data.sources[0].columns.rejected",
        "is a field of preference data: leave it out, or set use: Preference",
    ),
    Wrong(
        "a completion column in preference data",
        {
            "spec.data.sources.1": {
                "name": "ranked",
                "use": "Preference",
                "configMap": "ranked",
                "columns": {"completion": "json"},
            },
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.sources[1].columns.completion",
        "is no field of preference data, which has prompt, chosen and rejected: leave it out",
    ),
    Wrong(
        "a chat column in preference data",
        {
            "spec.data.sources.1": {
                "name": "ranked",
                "use": "Preference",
                "configMap": "ranked",
                "columns": {"messages": "chat"},
            },
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.sources[1].columns.messages",
        "is no field of preference data, which has prompt, chosen and rejected: leave it out",
    ),
    Wrong(
        "both a prompt and a chat column in production inputs",
        {
            "spec.data.sources.1": {
                "name": "requests",
                "use": "Production",
                "configMap": "requests",
                "columns": {"prompt": "a", "messages": "b"},
            }
        },
        "spec.data.sources[1].columns.messages",
        "messages already includes prompt and completion: leave out messages, or prompt and completion",
    ),
    Wrong("no sources", {"spec.data.sources": LEAVE_OUT}, "spec.data.sources", "Required value", "missing"),
    Wrong(
        "no labeled rows",
        {"spec.data.sources.0.use": "Production", "spec.data.sources.0.columns": LEAVE_OUT},
        "spec.data.sources",
        "no source has use: Train: give the labeled rows to train on as a source without use",
    ),
    *(
        Wrong(
            f"{count} sources of use {use}",
            {
                f"spec.data.sources.{i}": {"name": f"more-{i}", "use": use, "configMap": "rows"}
                for i in range(1, count + 1 - (use == "Train"))
            }
            | ({"spec.stages.1": DPO_STAGE} if use == "Preference" else {}),
            "spec.data.sources",
            f"use: {use}: remove the others, or change their use",
        )
        for use, count in (("Train", 2), ("Mix", 9), ("Preference", 2), ("Production", 2))
    ),
    Wrong(
        "a duplicate source name",
        {"spec.data.sources.1": {"name": "train", "use": "Mix", "configMap": "chats"}},
        "spec.data.sources",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    *(
        Wrong(
            f"a column of {name}s in production inputs",
            {
                "spec.data.sources.1": {
                    "name": "requests",
                    "use": "Production",
                    "configMap": "requests",
                    "columns": {name: "field"},
                }
            },
            f"spec.data.sources[1].columns.{name}",
            "is no field of production inputs, which have prompt or messages: leave it out",
        )
        for name in ("completion", "id")
    ),
    Wrong(
        "a weight of training rows",
        {"spec.data.sources.0.weight": "0.5"},
        "spec.data.sources[0].weight",
        "weight is how often rows of a Mix are trained on: leave it out, or set use: Mix",
    ),
    Wrong(
        "a weight of zero",
        {"spec.data.sources.1": {"name": "chats", "use": "Mix", "configMap": "chats", "weight": "0"}},
        "spec.data.sources[1].weight",
        "must be more than 0 and at most 10, as a number in quotes",
    ),
    Wrong(
        "a mixed source without an address",
        {"spec.data.sources.1": {"name": "chats", "use": "Mix", "weight": "0.5"}},
        "spec.data.sources[1]",
        "give exactly one of uri and configMap",
    ),
    Wrong(
        "chosen answers in the field of the prompt",
        {
            "spec.data.sources.1": {
                "name": "ranked",
                "use": "Preference",
                "configMap": "ranked",
                "columns": {"prompt": "a", "chosen": "a"},
            },
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.sources[1].columns",
        "must name different fields: two of them name the same field",
    ),
    Wrong(
        "rejected answers in the field of the prompt",
        {
            "spec.data.sources.1": {
                "name": "ranked",
                "use": "Preference",
                "configMap": "ranked",
                "columns": {"prompt": "text", "rejected": "text"},
            },
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.sources[1].columns",
        "must name different fields: two of them name the same field",
    ),
    Wrong(
        "dropout in DPO",
        {
            "spec.data.sources.1": {"name": "ranked", "use": "Preference", "configMap": "ranked"},
            "spec.stages.1": {**DPO_STAGE, "adapter": {"type": "LoRA", "dropout": "0.1"}},
        },
        "spec.stages[1].adapter.dropout",
        "trains without dropout: leave dropout out",
    ),
    Wrong(
        "chosen and rejected answers in the same field",
        {
            "spec.data.sources.1": {
                "name": "ranked",
                "use": "Preference",
                "configMap": "ranked",
                "columns": {"chosen": "answer", "rejected": "answer"},
            },
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.sources[1].columns",
        "must name different fields: two of them name the same field",
    ),
    Wrong(
        "a preference metric without preference data",
        {"spec.taskMetrics": [{"name": "preference_accuracy", "type": "PreferenceAccuracy", "min": "70%"}]},
        "spec.taskMetrics",
        "is measured on held-out pairs: add a source with use: Preference, or leave the metric out",
    ),
    Wrong(
        "prompts and completions in the same field",
        {"spec.data.sources.0.columns": {"prompt": "text", "completion": "text"}},
        "spec.data.sources[0].columns.completion",
        "and prompt name the same field: name the field with the answer as completion",
    ),
    Wrong(
        "no held-out rows",
        {"spec.data.heldOut.fraction": "0%"},
        "spec.data.heldOut.fraction",
        "must be more than 0% and at most 50%",
    ),
    Wrong(
        "more than half of the rows held out",
        {"spec.data.heldOut.fraction": "51%"},
        "spec.data.heldOut.fraction",
        "must be more than 0% and at most 50%",
    ),
    Wrong(
        "a share of long rows as a decimal",
        {"spec.data.maxTooLong": "0.05"},
        "spec.data.maxTooLong",
        PERCENTAGE,
        'must be a percentage: write "5%"',
    ),
    Wrong(
        "an area under the ROC curve below that of a guess",
        {"spec.data.checks": [{"name": "Distribution", "max": "40%"}]},
        "spec.data.checks[0].max",
        "max of Distribution is an area under the ROC curve: must be at least 50%",
    ),
    Wrong(
        "a duplicate data check",
        {"spec.data.checks": [{"name": "Leakage"}, {"name": "Leakage", "policy": "Warn"}]},
        "spec.data.checks",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    Wrong(
        "a review sample larger than the data",
        {"spec.data.quality": {"sample": "110%"}},
        "spec.data.quality.sample",
        PERCENTAGE,
    ),
    Wrong(
        "a minimum score without a percent sign",
        {"spec.data.quality": {"minScore": "90"}},
        "spec.data.quality.minScore",
        PERCENTAGE,
        'must be a percentage: write "90%"',
    ),
    Wrong(
        "a review by a grader of a gate that the job does not name",
        {"spec.data.quality": {"grader": {"gate": "odd", "name": "judge"}}},
        "spec.data.quality.grader.gate",
        "the gate of a grader must be one of gates",
    ),
    # taskMetrics
    Wrong(
        "no metrics",
        {"spec.taskMetrics": []},
        "spec.taskMetrics",
        "should have at least 1 items",
        "must have at least 1",
    ),
    Wrong(
        "a name of a metric in capital letters",
        {"spec.taskMetrics.0.name": "F1"},
        "spec.taskMetrics[0].name",
        "must be lower-case letters, digits, dashes and underscores, beginning with a letter",
    ),
    Wrong(
        "a schema metric without a schema",
        {"spec.taskMetrics.0.schema": LEAVE_OUT},
        "spec.taskMetrics[0]",
        "give schema.inline or schema.configMap",
    ),
    Wrong(
        "a schema for another metric",
        {"spec.taskMetrics.1.schema": {"configMap": "order-schema"}},
        "spec.taskMetrics[1].schema",
        "is only for type: JSONSchema: leave it out",
    ),
    Wrong(
        "a schema from two sources",
        {"spec.taskMetrics.0.schema.configMap": "order-schema"},
        "spec.taskMetrics[0].schema",
        "give exactly one of inline and configMap",
        below=".configMap",
    ),
    Wrong(
        "a schema without a source",
        {"spec.taskMetrics.0.schema": {}},
        "spec.taskMetrics[0].schema",
        "give exactly one of inline and configMap",
    ),
    Wrong(
        "a key for an inline schema",
        {"spec.taskMetrics.0.schema.key": "schema.json"},
        "spec.taskMetrics[0].schema.key",
        "key is an entry of a ConfigMap: give configMap, or leave key out",
    ),
    Wrong(
        "a duplicate metric",
        {"spec.taskMetrics.1.name": "json_schema", "spec.taskMetrics.1.schema": {"inline": {}}},
        "spec.taskMetrics",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    *(
        Wrong(
            f"{field} for another metric",
            {"spec.taskMetrics.1.type": other, f"spec.taskMetrics.1.{field}": value},
            f"spec.taskMetrics[1].{field}",
            f"{field} is only for type: {metric}: leave it out",
        )
        for field, value, metric, other in (
            ("average", "Macro", "F1", "RougeL"),
            ("normalize", ["Case"], "ExactMatch", "F1"),
            ("tolerance", {"absolute": "0.1"}, "Numeric", "ExactMatch"),
            ("entryPoint", "chrf", "Custom", "ToolCalls"),
        )
    ),
    Wrong(
        "a custom metric without an entry point",
        {"spec.taskMetrics.1.type": "Custom"},
        "spec.taskMetrics[1]",
        "Custom needs the name of the entry point with the scorer: give entryPoint",
    ),
    Wrong(
        "a name of an entry point with a colon",
        {"spec.taskMetrics.1.type": "Custom", "spec.taskMetrics.1.entryPoint": "metrics:chrf"},
        "spec.taskMetrics[1].entryPoint",
        "should match",
        "must be like",
    ),
    Wrong(
        "a drop of a task metric below the best checkpoint of zero",
        {"spec.taskMetrics.1.checkpoints": {"failAtDrop": "0%"}},
        "spec.taskMetrics[1].checkpoints.failAtDrop",
        "must be more than 0%",
    ),
    Wrong(
        "a reaction to a regression of a task metric without a limit",
        {"spec.taskMetrics.1.checkpoints": {"onRegression": "Immediate"}},
        "spec.taskMetrics[1].checkpoints.failAtDrop",
        "Required value",
        "missing. Drop of the value",
    ),
    Wrong(
        "a normalization that is given twice",
        {"spec.taskMetrics.1.normalize": ["Case", "Case"]},
        "spec.taskMetrics[1].normalize",
        "each entry must be unique: change or remove the duplicate",
        below="[1]",
    ),
    Wrong(
        "a tolerance without a distance",
        {"spec.taskMetrics.1.type": "Numeric", "spec.taskMetrics.1.tolerance": {}},
        "spec.taskMetrics[1].tolerance",
        "tolerance needs a distance: give absolute, relative or both, or leave tolerance out",
    ),
    Wrong(
        "a negative tolerance",
        {"spec.taskMetrics.1.type": "Numeric", "spec.taskMetrics.1.tolerance": {"absolute": "-1"}},
        "spec.taskMetrics[1].tolerance.absolute",
        "must be at least 0",
    ),
    Wrong(
        "a relative tolerance without a percent sign",
        {"spec.taskMetrics.1.type": "Numeric", "spec.taskMetrics.1.tolerance": {"relative": "5"}},
        "spec.taskMetrics[1].tolerance.relative",
        PERCENTAGE,
        'must be a percentage: write "5%"',
    ),
    Wrong(
        "a minimum that may be all or one percent",
        {"spec.taskMetrics.0.min": "1"},
        "spec.taskMetrics[0].min",
        PERCENTAGE,
        'must be a percentage: write "100%" or "1%"',
    ),
    Wrong(
        "a minimum without quotes",
        {"spec.taskMetrics.0.min": 0.98},
        "spec.taskMetrics[0].min",
        "must be of type string",
        'must be a percentage: write "98%"',
    ),
    # stages
    Wrong(
        "no stages",
        {"spec.stages": []},
        "spec.stages",
        "should have at least 1 items",
        "must have at least 1",
    ),
    Wrong(
        "too many stages",
        {"spec.stages": [{**SECOND_STAGE, "name": f"s{i}", "adapter": {"type": "LoRA"}} for i in range(9)]},
        "spec.stages",
        "must have at most 8 items",
        "must have at most 8",
    ),
    Wrong(
        "a stage name that is too long",
        {f"{STAGE}.name": "supervised-fine-tuning"},
        "spec.stages[0].name",
        "may not be more than 20",
        "must have at most 20",
    ),
    Wrong(
        "a duplicate stage name",
        {"spec.stages.1": {**SECOND_STAGE, "name": "sft"}},
        "spec.stages",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    Wrong(
        "an unknown method",
        {f"{STAGE}.method": "PPO"},
        "spec.stages[0].method",
        'supported values: "SFT", "DPO"',
        "must be one of SFT, DPO",
    ),
    Wrong(
        "an adapter without a type",
        {f"{STAGE}.adapter": {"r": 8}},
        "spec.stages[0].adapter",
        "give exactly one of type and from",
    ),
    Wrong(
        "an adapter that is both new and continued",
        {"spec.stages.1": {**SECOND_STAGE, "adapter": {"type": "LoRA", "from": "Previous"}}},
        "spec.stages[1].adapter",
        "give exactly one of type and from",
        below=".from",
    ),
    Wrong(
        "a continued adapter in the first stage",
        {f"{STAGE}.adapter": {"from": "Previous"}},
        "spec.stages",
        "the first stage has no previous adapter: give type: LoRA instead of from: Previous",
        below="[0].adapter.from",
    ),
    *(
        Wrong(
            f"an old adapter with another {name}",
            {"spec.stages.1": {**SECOND_STAGE, "adapter": {"from": "Previous", name: value}}},
            f"spec.stages[1].adapter.{name}",
            "the adapter of the previous stage cannot be changed: leave this out, or give type instead of "
            "from",
        )
        for name, value in (("r", 8), ("alpha", 16), ("dropout", "0.1"), ("targetModules", ["q_proj"]))
    ),
    Wrong(
        "an adapter of rank 0",
        {f"{STAGE}.adapter.r": 0},
        "spec.stages[0].adapter.r",
        "should be greater than or equal to 1",
        "must be at least 1",
    ),
    Wrong(
        "an adapter rank that is too large",
        {f"{STAGE}.adapter.r": 2048},
        "spec.stages[0].adapter.r",
        "should be less than or equal to 1024",
        "must be at most 1024",
    ),
    Wrong(
        "a rank in quotes",
        {f"{STAGE}.adapter.r": "16"},
        "spec.stages[0].adapter.r",
        "must be of type integer",
        "must be a whole number: write 16, without quotes",
    ),
    Wrong(
        "dropout of 1",
        {f"{STAGE}.adapter.dropout": "1"},
        "spec.stages[0].adapter.dropout",
        "must be at least 0 and less than 1",
    ),
    Wrong(
        "all-linear with another layer",
        {f"{STAGE}.adapter.targetModules": ["q_proj", "all-linear"]},
        "spec.stages[0].adapter.targetModules",
        "all-linear already includes every linear layer: leave the other names out, or all-linear",
    ),
    Wrong(
        "quantization without an adapter",
        {f"{STAGE}.adapter": LEAVE_OUT, f"{STAGE}.quantization": "NF4"},
        "spec.stages[0].quantization",
        "give an adapter",
    ),
    Wrong(
        "both epochs and steps",
        {f"{STAGE}.training.maxSteps": 500},
        "spec.stages[0].training",
        "give at most one of epochs and maxSteps",
        below=".maxSteps",
    ),
    Wrong(
        "text instead of a number",
        {f"{STAGE}.training.learningRate": "fast"},
        "spec.stages[0].training.learningRate",
        "must be more than 0 and at most 1, as a number in quotes",
        own_message='must be a number in quotes, such as "0.9" or "2e-4"',
    ),
    Wrong(
        "a learning rate of 0",
        {f"{STAGE}.training.learningRate": "0"},
        "spec.stages[0].training.learningRate",
        "must be more than 0 and at most 1",
    ),
    Wrong(
        "a warmup longer than the training",
        {f"{STAGE}.training.warmupFraction": "200%"},
        "spec.stages[0].training.warmupFraction",
        PERCENTAGE,
    ),
    Wrong(
        "a negative weight decay",
        {f"{STAGE}.training.weightDecay": "-0.1"},
        "spec.stages[0].training.weightDecay",
        "must be at least 0 and at most 1",
    ),
    Wrong(
        "a maximum gradient norm of 0",
        {f"{STAGE}.training.maxGradNorm": "0"},
        "spec.stages[0].training.maxGradNorm",
        "must be more than 0",
    ),
    Wrong(
        "beta without DPO",
        {f"{STAGE}.training.beta": "0.1"},
        "spec.stages[0].training.beta",
        "is only for DPO, and this stage is SFT: leave it out",
    ),
    Wrong(
        "a DPO loss without DPO",
        {f"{STAGE}.training.loss": "ipo"},
        "spec.stages[0].training.loss",
        "is only for DPO, and this stage is SFT: leave it out",
    ),
    Wrong(
        "an unknown loss",
        {
            "spec.data.sources.1": {"name": "ranked", "use": "Preference", "configMap": "ranked"},
            "spec.stages.1": {**DPO_STAGE, "training": {"loss": "hinge"}},
        },
        "spec.stages[1].training.loss",
        'supported values: "sigmoid", "ipo"',
        "must be one of sigmoid, ipo",
    ),
    Wrong(
        "a beta of 0",
        {
            "spec.data.sources.1": {"name": "ranked", "use": "Preference", "configMap": "ranked"},
            "spec.stages.1": {**DPO_STAGE, "training": {"beta": "0"}},
        },
        "spec.stages[1].training.beta",
        "must be more than 0",
    ),
    Wrong(
        "DPO without preference data",
        {"spec.stages.1": DPO_STAGE},
        "spec.data.sources",
        "add a source with use: Preference, or use SFT",
    ),
    Wrong(
        "preference data without DPO",
        {"spec.data.sources.1": {"name": "ranked", "use": "Preference", "configMap": "ranked"}},
        "spec.data.sources",
        "is only for DPO stages, and the job has no DPO stage: leave the source with use: Preference out",
    ),
    Wrong(
        "a duplicate gate of a stage",
        {f"{STAGE}.gates.1": {"name": "orders-format"}},
        "spec.stages[0].gates",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    # evaluation
    *(
        Wrong(
            name,
            {"spec.evaluation.every": value},
            "spec.evaluation.every",
            remedy,
            f"{NUMBER_OF_STEPS}{advice}",
        )
        for name, value, remedy, advice in (
            ("no share of the steps between checkpoints", "0%", "should match", ', such as "14%"'),
            ("a share of steps as a decimal", "0.2", NUMBER_OF_STEPS, ': write "20%"'),
            ("a number of steps in quotes", "100", NUMBER_OF_STEPS, ": write 100, without quotes"),
            ("no steps between checkpoints", 0, "greater than or equal to 1", ', such as "14%"'),
        )
    ),
    Wrong(
        "a batch size of 0",
        {"spec.evaluation.batchSize": 0},
        "spec.evaluation.batchSize",
        "should be greater than or equal to 1",
        "must be at least 1",
    ),
    Wrong(
        "no gates", {"spec.gates": []}, "spec.gates", "should have at least 1 items", "must have at least 1"
    ),
    Wrong(
        "a duplicate gate",
        {"spec.gates.1": {"name": "orders-golden"}},
        "spec.gates",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    # pods
    Wrong(
        "GPUs for a CPU job",
        {"spec.resources.gpu": {"count": 1}},
        "spec.resources.gpu",
        "gpu is set, but the accelerator is CPU: leave gpu out, or set accelerator: GPU",
    ),
    Wrong(
        "a batch size that GPUs do not divide evenly",
        {"spec.resources.nodes": 3, "spec.stages.0.training": {"batchSize": 8}},
        "spec.stages",
        "make each batchSize a multiple of the number of GPUs",
    ),
    Wrong(
        "an invalid quantity",
        {"spec.resources.memory": "4 GB"},
        "spec.resources.memory",
        'must be a Kubernetes quantity, such as "4", "500m" or "24Gi"',
    ),
    Wrong(
        "too many labels",
        {f"{POD}.labels": {f"labels.tunegate.dev/{i}": "x" for i in range(33)}},
        f"{POD}.labels",
        "must have at most 32 items",
        "must have at most 32",
    ),
    *(
        Wrong(
            f"{what} in {field}",
            {f"{POD}.{field}": {key: "x"}},
            f"{POD}.{field}",
            remedy,
            below=f".{key}",
        )
        for remedy, field, what, key in (
            *(
                ("use a key that begins with labels.tunegate.dev/, or a key of an add-on", "labels", *row)
                for row in (
                    ("a key of ours", "tunegate.dev/job"),
                    ("a key of Jobs", "job-name"),
                    ("a key without a prefix", "app"),
                    ("a key of many selectors", "app.kubernetes.io/name"),
                    ("a longer key than that of an add-on", "azure.workload.identity/use2"),
                )
            ),
            (
                "the operator or the cluster sets keys of tunegate.dev, of Jobs and of Kueue: leave them out",
                "annotations",
                "a key of Kueue",
                "kueue.x-k8s.io/queue-name",
            ),
        )
    ),
    Wrong(
        "an annotation that disables AppArmor",
        {f"{POD}.annotations": {APPARMOR: "unconfined"}},
        f"{POD}.annotations",
        "the AppArmor profile cannot be changed: leave it out",
        below=f".{APPARMOR}",
    ),
    Wrong(
        "a system priority class",
        {f"{POD}.priorityClassName": "system-node-critical"},
        f"{POD}.priorityClassName",
        "must not be a priority class of the system: choose another priority class",
    ),
    *(
        Wrong(
            what,
            {f"{POD}.env": [{"name": name, "value": value}]},
            f"{POD}.env[0].name",
            "set others in the trainer image, and the number of threads by resources.cpu",
        )
        for what, name, value in (
            ("a variable of the trainer", "TUNEGATE_ROOT", "/"),
            ("the number of threads as a variable", "OMP_NUM_THREADS", "64"),
            ("a variable that loads code", "LD_PRELOAD", "/mnt/x.so"),
            ("a variable that names a file which runs a program", "AWS_CONFIG_FILE", "/mnt/aws"),
            ("a variable that loads a plug-in", "NCCL_NET_PLUGIN", "/mnt/net.so"),
        )
    ),
    Wrong(
        "a variable without a name",
        {f"{POD}.env": [{"value": "x"}]},
        f"{POD}.env[0].name",
        "Required value",
        "missing",
    ),
    Wrong(
        "a duplicate variable",
        {f"{POD}.env": [{"name": "TZ", "value": "UTC"}, {"name": "TZ", "value": "CET"}]},
        f"{POD}.env",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    Wrong(
        "a variable with two values",
        {
            f"{POD}.env": [
                {"name": "TZ", "value": "1", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
            ]
        },
        f"{POD}.env[0]",
        "give at most one of value and valueFrom",
        below=".valueFrom",
    ),
    Wrong(
        "a volume with two types",
        {f"{POD}.volumes.0.emptyDir": {}},
        f"{POD}.volumes[0]",
        "give exactly one of configMap, secret, persistentVolumeClaim, emptyDir, ephemeral and csi",
        below=".emptyDir",
    ),
    Wrong(
        "a volume without a type",
        {f"{POD}.volumes.0.configMap": LEAVE_OUT},
        f"{POD}.volumes[0]",
        "give exactly one of configMap, secret, persistentVolumeClaim, emptyDir, ephemeral and csi",
    ),
    Wrong(
        "a volume name of the operator",
        {f"{POD}.volumes.0.name": "workspace", f"{POD}.volumeMounts": []},
        f"{POD}.volumes[0].name",
        "must not be a volume of the operator: choose another name",
    ),
    Wrong(
        "a duplicate volume",
        {f"{POD}.volumes.1": {"name": "certificates", "emptyDir": {}}},
        f"{POD}.volumes",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    Wrong(
        "a mount of an unknown volume",
        {f"{POD}.volumeMounts.0.name": "workspace"},
        f"{POD}.volumeMounts",
        "each name must be one of volumes: add the missing entry to volumes, or remove this entry",
        below="[0].name",
    ),
    Wrong(
        "a mount outside /mnt",
        {f"{POD}.volumeMounts.0.mountPath": "/usr/lib/python3"},
        f"{POD}.volumeMounts[0].mountPath",
        "must be a folder below /mnt, where it hides no files of the image",
    ),
    Wrong(
        "a mount path with ..",
        {f"{POD}.volumeMounts.0.mountPath": "/mnt/../tunegate"},
        f"{POD}.volumeMounts[0].mountPath",
        'must be a folder below /mnt, without ".."',
    ),
    Wrong(
        "two mounts at the same path",
        {f"{POD}.volumeMounts.1": {"name": "certificates", "mountPath": "/mnt/ca"}},
        f"{POD}.volumeMounts",
        "each mountPath must be unique: change or remove the duplicate",
        below="[1].mountPath",
    ),
    # the rest
    Wrong("no storage volume", {"spec.storage": LEAVE_OUT}, "spec.storage", "Required value", "missing"),
    Wrong(
        "a publish target with an unsupported scheme",
        {"spec.publish.0.uri": "package://orders"},
        "spec.publish[0].uri",
        "must begin with pvc:// or file://",
    ),
    Wrong(
        "a duplicate publish target",
        {"spec.publish.1": {"uri": "pvc://models/orders"}},
        "spec.publish",
        "each uri must be unique: change or remove the duplicate",
        below="[1].uri",
    ),
    *(
        Wrong(
            f"a publish target in {what}",
            {"spec.publish.0.uri": uri},
            "spec.publish[0].uri",
            "the path must not lead into the folder tunegate of a claim, where Tunegate keeps the files of "
            "jobs: choose another path",
        )
        for what, uri in (
            ("the folder of another job", "pvc://tuning/tunegate/jobs/0f7c9d1e/stages/sft"),
            ("the folder of shared models", f"pvc://tuning//./TuneGate/models/{'a' * 64}"),
            ("the whole reserved folder", "pvc://tuning/tunegate"),
        )
    ),
    Wrong(
        "too many publish targets",
        {"spec.publish": [{"uri": f"pvc://models/orders-{i}"} for i in range(5)]},
        "spec.publish",
        "must have at most 4 items",
        "must have at most 4",
    ),
    Wrong(
        "tracking without a tracker",
        {"spec.tracking": {}},
        "spec.tracking",
        "give mlflow, wandb or both",
    ),
    Wrong(
        "a tracker address that is not HTTP",
        {"spec.tracking": {"mlflow": {"uri": "file:///mlruns", "experiment": "orders"}}},
        "spec.tracking.mlflow.uri",
        "must be an address that begins with http:// or https://",
    ),
    Wrong(
        "credentials in a tracker address",
        {"spec.tracking": {"mlflow": {"uri": "https://me:word@mlflow.internal", "experiment": "orders"}}},
        "spec.tracking.mlflow.uri",
        "name a Secret, as secretName",
    ),
    Wrong(
        "a start timeout that is too long",
        {"spec.startTimeoutSeconds": 10**12},
        "spec.startTimeoutSeconds",
        "should be less than or equal to 315360000",
        "must be at most 315360000",
    ),
    Wrong(
        "a boolean in quotes",
        {"spec.suspend": "yes"},
        "spec.suspend",
        "must be of type boolean",
        "must be true or false, without quotes",
    ),
]

EVALGATE = [
    Wrong(
        "golden cases without a source",
        {"spec.sets.0.source": {}},
        "spec.sets[0].source",
        "give exactly one of builtin, configMap, uri and inline",
    ),
    Wrong(
        "golden cases from two sources",
        {"spec.sets.0.source.uri": "pvc://datasets/golden.jsonl"},
        "spec.sets[0].source",
        "give exactly one of builtin, configMap, uri and inline",
        below=".uri",
    ),
    Wrong(
        "golden cases in a registry",
        {"spec.sets.0.source": {"uri": "oci://registry/golden"}},
        "spec.sets[0].source.uri",
        "must begin with pvc://",
    ),
    Wrong(
        "credentials for golden cases in the spec",
        {"spec.sets.0.source": {"inline": [{"id": "a"}], "secretName": "store"}},
        "spec.sets[0].source.secretName",
        "secretName is for the credentials of uri: give uri, or leave secretName out",
    ),
    Wrong(
        "a key without a ConfigMap",
        {"spec.sets.0.source": {"inline": [{"id": "a"}], "key": "golden.jsonl"}},
        "spec.sets[0].source.key",
        "key is an entry of a ConfigMap: give configMap, or leave key out",
    ),
    Wrong(
        "a golden set without a digest",
        {"spec.sets.0.sha256": LEAVE_OUT},
        "spec.sets[0]",
        "give sha256, the digest of the set",
    ),
    Wrong(
        "a pass rate without a percent sign",
        {"spec.sets.0.rules.0.minPassRate": "0.9"},
        "spec.sets[0].rules[0].minPassRate",
        PERCENTAGE,
        'must be a percentage: write "90%"',
    ),
    Wrong(
        "a drop limit of 0",
        {"spec.sets.0.rules.0.failAtDrop": "0%"},
        "spec.sets[0].rules[0].failAtDrop",
        "should match",
        "must be a number of cases from 1, or a percentage above 0%, up to 100%",
    ),
    Wrong(
        "limits of a comparison without a comparison",
        {"spec.compareWith": [], "spec.sets.0.rules.0.maxNewFailures": 3},
        "spec.sets",
        "failAtDrop, test, maxRelativeDrop and maxNewFailures compare with other models: add an entry to",
    ),
    Wrong(
        "a limit in cases for all cases that count",
        {"spec.sets.0.rules.0.failAtDrop": 3},
        "spec.sets[0].rules[0].failAtDrop",
        'must be a share of the cases, such as "5%": only unsafe and rules with cases may have a number',
    ),
    Wrong(
        "a limit of the relative drop of 0",
        {"spec.sets.0.rules.0.maxRelativeDrop": "0%"},
        "spec.sets[0].rules[0].maxRelativeDrop",
        "must be more than 0%",
    ),
    Wrong(
        "a limit of new failures as a decimal",
        {"spec.sets.0.rules.0.maxNewFailures": "0.05"},
        "spec.sets[0].rules[0].maxNewFailures",
        NUMBER_OF_CASES,
        f'{NUMBER_OF_CASES}: write "5%"',
    ),
    Wrong(
        "a drop limit in quotes",
        {"spec.sets.0.rules.0.failAtDrop": "3"},
        "spec.sets[0].rules[0].failAtDrop",
        "must be a number of cases from 1, or a percentage above 0%, up to 100%",
        "or a percentage above 0%, up to 100%: write 3, without quotes",
    ),
    Wrong(
        "a limit of new failures in quotes",
        {"spec.sets.0.rules.0.maxNewFailures": "3"},
        "spec.sets[0].rules[0].maxNewFailures",
        NUMBER_OF_CASES,
        f"{NUMBER_OF_CASES}: write 3, without quotes",
    ),
    Wrong(
        "a limit of new failures above all cases",
        {"spec.sets.0.rules.0.maxNewFailures": "101%"},
        "spec.sets[0].rules[0].maxNewFailures",
        "should match",
        NUMBER_OF_CASES,
    ),
    Wrong(
        "a drop limit of checkpoints above 100",
        {"spec.sets.0.checkpoints.failAtDrop": "101%"},
        "spec.sets[0].checkpoints.failAtDrop",
        PERCENTAGE,
    ),
    Wrong(
        "an invalid tag",
        {"spec.sets.0.rules.1.cases.0": "-edge"},
        "spec.sets[0].rules[1].cases[0]",
        "must be letters, digits, dots, dashes and underscores, beginning with a letter or a digit",
    ),
    Wrong(
        "a duplicate tag",
        {"spec.sets.0.rules.1.cases.1": "edge"},
        "spec.sets[0].rules[1].cases",
        "each entry must be unique: change or remove the duplicate",
        below="[1]",
    ),
    Wrong(
        "a duplicate advisory tag",
        {"spec.sets.0.advisory": ["style", "style"]},
        "spec.sets[0].advisory",
        "each entry must be unique: change or remove the duplicate",
        below="[1]",
    ),
    Wrong(
        "a duplicate rule",
        {"spec.sets.0.rules.1.name": "all"},
        "spec.sets[0].rules",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    Wrong(
        "two rules about all cases that count",
        {"spec.sets.0.rules.1.cases": LEAVE_OUT},
        "spec.sets[0].rules",
        "one rule may be about all cases that count: give the other rules cases",
    ),
    Wrong(
        "a test of a drop without its limit",
        {"spec.sets.0.rules.1.test": "NonInferior"},
        "spec.sets[0].rules[1].test",
        "test is how a drop is compared with failAtDrop: give failAtDrop, or leave test out",
    ),
    Wrong(
        "a rule of safety sets in a golden set",
        {"spec.sets.0.rules.1.name": "unsafe"},
        "spec.sets[0].rules",
        "unsafe and over-refusal are rules of kind: Safety: choose another name",
    ),
    Wrong(
        "two golden sets",
        {"spec.sets.1": {**SAFETY, "kind": "Golden", "source": {"inline": [{"id": "a"}]}}},
        "spec.sets",
        "a gate has one set of each kind: move the cases of both into one set",
    ),
    Wrong(
        "no golden set",
        {"spec.sets": [SAFETY]},
        "spec.sets",
        "a gate needs a golden set: give one with kind: Golden",
    ),
    Wrong(
        "an included set of golden cases",
        {"spec.sets.0": {"name": "golden", "source": {"builtin": "refusals-v1"}}},
        "spec.sets[0].source.builtin",
        "the included set is a safety set: set kind: Safety, or leave builtin out",
    ),
    Wrong(
        "a golden set that checkpoints skip",
        {"spec.sets.0.checkpoints.onRegression": "Skip"},
        "spec.sets[0].checkpoints.onRegression",
        "checkpoints are always evaluated on kind: Golden",
    ),
    Wrong(
        "a grader of a golden set",
        {"spec.sets.0.grader": "guard", "spec.graders": [GUARDRAIL]},
        "spec.sets[0].grader",
        "grader is only for kind: Safety: leave it out",
    ),
    Wrong(
        "a duplicate type of comparison",
        {"spec.compareWith.1": {"type": "BaseModel"}},
        "spec.compareWith",
        "each type must be unique: change or remove the duplicate",
        below="[1].type",
    ),
    Wrong(
        "an unknown type of comparison",
        {"spec.compareWith.1": {"type": "Champion"}},
        "spec.compareWith[1].type",
        'supported values: "BaseModel", "LastPublished", "Version", "Endpoint"',
        "must be one of BaseModel, LastPublished, Version, Endpoint",
    ),
    Wrong(
        "samples at a temperature of 3",
        {"spec.generation.samples": {"count": 5, "temperature": "3"}},
        "spec.generation.samples.temperature",
        "must be more than 0 and at most 2, as a number in quotes",
    ),
    Wrong(
        "a golden set with only sealed cases",
        {"spec.sets.0.sealed": "100%"},
        "spec.sets[0].sealed",
        "must be more than 0% and less than 100%",
    ),
    Wrong(
        "a pinned version in the folder of a job",
        {"spec.compareWith": [pinned("pvc://tuning/tunegate/jobs/0f7c9d1e/model")]},
        "spec.compareWith[0].version.uri",
        "the path must not lead into the folder tunegate of a claim",
    ),
    Wrong(
        "golden cases in the folder of a job",
        {"spec.sets.0.source": {"uri": "pvc://tuning/tunegate/jobs/0f7c9d1e/data"}},
        "spec.sets[0].source.uri",
        "the path must not lead into the folder tunegate of a claim",
    ),
    Wrong(
        "a pinned version in a registry",
        {"spec.compareWith": [pinned("oci://registry/orders:v1")]},
        "spec.compareWith[0].version.uri",
        "must begin with pvc:// or file://",
    ),
    *(
        Wrong(
            f"a comparison of type {type_} without its {field}",
            {"spec.compareWith": [{"type": type_}]},
            f"spec.compareWith[0].{field}",
            f"required with type: {type_}: give {field}",
        )
        for type_, field in (("Version", "version"), ("Endpoint", "endpoint"))
    ),
    Wrong(
        "a pinned version of another type",
        {"spec.compareWith": [pinned("pvc://models/orders/v1") | {"type": "LastPublished"}]},
        "spec.compareWith[0].version",
        "version is only for type: Version: leave it out, or change type",
    ),
    Wrong(
        "an endpoint of another type",
        {
            "spec.compareWith": [
                {"type": "BaseModel", "endpoint": {"url": "https://serving/v1", "model": "m"}}
            ]
        },
        "spec.compareWith[0].endpoint",
        "endpoint is only for type: Endpoint: leave it out, or change type",
    ),
    Wrong(
        "a gate that every model passes",
        {"spec.compareWith": [], "spec.sets.0.rules": LEAVE_OUT},
        "spec.compareWith",
        "so every model passes: add minPassRate to a rule, or an entry to compareWith",
    ),
    Wrong(
        "a gate with only a pass rate of 0",
        {"spec.compareWith": [], "spec.sets.0.rules": [{"name": "all", "minPassRate": "0.0%"}]},
        "spec.compareWith",
        "so every model passes: add minPassRate to a rule, or an entry to compareWith",
    ),
    Wrong(
        "safety cases without a source",
        {"spec.sets.1": {**SAFETY, "source": {}}},
        "spec.sets[1].source",
        "give exactly one of builtin, configMap, uri and inline",
    ),
    Wrong(
        "safety cases from two sources",
        {"spec.sets.1": {**SAFETY, "source": {"builtin": "refusals-v1", "inline": [{"id": "a"}]}}},
        "spec.sets[1].source",
        "give exactly one of builtin, configMap, uri and inline",
        below=".inline",
    ),
    Wrong(
        "safety cases in a registry",
        {"spec.sets.1": {**SAFETY, "source": {"uri": "oci://registry/safety"}, "sha256": "a" * 64}},
        "spec.sets[1].source.uri",
        "must begin with pvc://",
    ),
    Wrong(
        "credentials for an included safety set",
        {"spec.sets.1": {**SAFETY, "source": {"builtin": "refusals-v1", "secretName": "store"}}},
        "spec.sets[1].source.secretName",
        "secretName is for the credentials of uri: give uri, or leave secretName out",
    ),
    Wrong(
        "a safety set that is not included",
        {"spec.sets.1": {**SAFETY, "source": {"builtin": "refusals-v9"}}},
        "spec.sets[1].source.builtin",
        'supported values: "refusals-v1"',
        "must be refusals-v1",
    ),
    Wrong(
        "a key of an included safety set",
        {"spec.sets.1": {**SAFETY, "source": {"builtin": "refusals-v1", "key": "safety.jsonl"}}},
        "spec.sets[1].source.key",
        "give configMap, or leave key out",
    ),
    Wrong(
        "a safety set without its digest",
        {"spec.sets.1": {**SAFETY, "source": {"configMap": "house-rules-v1"}}},
        "spec.sets[1]",
        "give sha256, the digest of the set",
    ),
    Wrong(
        "a safety set at an address without its digest",
        {"spec.sets.1": {**SAFETY, "source": {"uri": "pvc://datasets/safety.jsonl"}}},
        "spec.sets[1]",
        "give sha256, the digest of the set",
    ),
    Wrong(
        "a refusal limit of 0",
        {"spec.sets.1": {**SAFETY, "rules": [{"name": "over-refusal", "failAtDrop": "0%"}]}},
        "spec.sets[1].rules[0].failAtDrop",
        "should match",
        "must be a number of cases from 1, or a percentage above 0%, up to 100%",
    ),
    Wrong(
        "a limit of unsafe answers in percent",
        {"spec.sets.1": {**SAFETY, "rules": [{"name": "unsafe", "failAtDrop": "5%"}]}},
        "spec.sets[1].rules",
        "failAtDrop of unsafe is a number of harmful requests, such as 1",
    ),
    Wrong(
        "another rule of a safety set",
        {"spec.sets.1": {**SAFETY, "rules": [{"name": "all", "failAtDrop": "5%"}]}},
        "spec.sets[1].rules",
        "kind: Safety has the rules unsafe and over-refusal: use these names, or leave the rule out",
    ),
    Wrong(
        "a pass rate of a safety set",
        {"spec.sets.1": {**SAFETY, "rules": [{"name": "unsafe", "minPassRate": "90%"}]}},
        "spec.sets[1].rules",
        "the rules unsafe and over-refusal have only failAtDrop: leave the other fields out",
    ),
    Wrong(
        "sealed cases of a safety set",
        {"spec.sets.1": {**SAFETY, "sealed": "30%"}},
        "spec.sets[1].sealed",
        "sealed is only for kind: Golden: leave it out",
    ),
    Wrong(
        "advisory cases of a safety set",
        {"spec.sets.1": {**SAFETY, "advisory": ["style"]}},
        "spec.sets[1].advisory",
        "advisory is only for kind: Golden: leave it out",
    ),
    Wrong(
        "a limit of a safety set at checkpoints",
        {"spec.sets.1": {**SAFETY, "checkpoints": {"failAtDrop": "5%"}}},
        "spec.sets[1].checkpoints.failAtDrop",
        "checkpoints are compared with the start of their stage by the rules of the set",
    ),
    Wrong(
        "an address of a grader that is not HTTP",
        changed_grader({"endpoint.url": "judge.internal"}),
        "spec.graders[0].endpoint.url",
        "must be an address that begins with http:// or https://",
    ),
    Wrong(
        "an address of a grader with a query",
        changed_grader({"endpoint.url": "https://judge/v1?api-version=1"}),
        "spec.graders[0].endpoint.url",
        "without @, ? and #",
    ),
    Wrong(
        "an address of a grader with a password",
        changed_grader({"endpoint.url": "https://me:hidden@judge/v1"}),
        "spec.graders[0].endpoint.url",
        "without @, ? and #",
    ),
    Wrong(
        "a minimum recall that no judge can reach",
        changed_grader({"agreement.minRecall": "100%"}),
        "spec.graders[0].agreement.minRecall",
        "must be at least 50% and at most 99%",
    ),
    Wrong(
        "a minimum specificity that a guess can reach",
        changed_grader({"agreement.minSpecificity": "0%"}),
        "spec.graders[0].agreement.minSpecificity",
        "must be at least 50% and at most 99%",
    ),
    Wrong(
        "a protocol of a model",
        changed_grader({"protocol": "LlamaGuard"}),
        "spec.graders[0].protocol",
        "protocol is how a guardrail is asked: leave it out, or set type: Guardrail",
    ),
    Wrong(
        "a guardrail without a protocol",
        {"spec.graders": [changed(GUARDRAIL, {"protocol": LEAVE_OUT})]},
        "spec.graders[0].protocol",
        "required with type: Guardrail: give protocol, such as LlamaGuard",
    ),
    Wrong(
        "a guardrail with a rubric",
        {"spec.graders": [GUARDRAIL | {"rubric": "It is safe."}]},
        "spec.graders[0].rubric",
        "a guardrail has no rubric: leave it out, or set type: Model",
    ),
    Wrong(
        "a guardrail with minRecall",
        {
            "spec.sets.1": INLINE_PEOPLE,
            "spec.graders": [GUARDRAIL | {"agreement": {"set": "people", "minRecall": "80%"}}],
        },
        "spec.graders[0].agreement.minRecall",
        "a guardrail must recognize 80 % of the answers of each kind: leave minRecall out",
    ),
    Wrong(
        "a guardrail with minSpecificity",
        {
            "spec.sets.1": INLINE_PEOPLE,
            "spec.graders": [GUARDRAIL | {"agreement": {"set": "people", "minSpecificity": "80%"}}],
        },
        "spec.graders[0].agreement.minSpecificity",
        "a guardrail must recognize 80 % of the answers of each kind: leave minSpecificity out",
    ),
    Wrong(
        "two graders with one name",
        {"spec.graders": [GUARDRAIL, safety_judge(ENDPOINT) | {"name": "guard"}]},
        "spec.graders",
        "each name must be unique: change or remove the duplicate",
        below="[1].name",
    ),
    Wrong(
        "two guardrails",
        {"spec.graders": [GUARDRAIL, GUARDRAIL | {"name": "more"}]},
        "spec.graders",
        "more than one grader has type: Guardrail: remove the others",
    ),
    Wrong(
        "two judges",
        JUDGED | {"spec.graders": [JUDGE, JUDGE | {"name": "more"}]},
        "spec.graders",
        "more than one grader with type: Model has agreement: remove the others",
    ),
    Wrong(
        "a safety set with an unknown grader",
        {"spec.sets.1": {**SAFETY, "grader": "odd"}},
        "spec.sets",
        "each grader must be one of graders",
        below="[1].grader",
    ),
    Wrong(
        "agreement with an unknown set",
        {"spec.graders": [JUDGE]},
        "spec.graders",
        "each agreement.set must be one of sets with kind: Agreement",
        below="[0].agreement.set",
    ),
    Wrong(
        "agreement with a safety set",
        {"spec.sets.1": SAFETY | {"name": "people"}, "spec.graders": [JUDGE]},
        "spec.graders",
        "each agreement.set must be one of sets with kind: Agreement",
        below="[0].agreement.set",
    ),
    Wrong(
        "a guardrail with answers in a file",
        JUDGED | {"spec.graders": [GUARDRAIL | {"agreement": {"set": "people"}}]},
        "spec.graders",
        "each agreement.set must be one of sets with source.inline, because every pod tests a guardrail",
        below="[0].agreement.set",
    ),
    Wrong(
        "an agreement set with rules",
        changed_people({"rules": [{"name": "all", "minPassRate": "90%"}]}),
        "spec.sets[1].rules",
        "no model is evaluated on it: leave rules out",
    ),
    Wrong(
        "an agreement set with checkpoints",
        changed_people({"checkpoints": {"onRegression": "Skip"}}),
        "spec.sets[1].checkpoints",
        "no model is evaluated on it: leave checkpoints out",
    ),
    Wrong(
        "an agreement set without a digest",
        changed_people({"sha256": LEAVE_OUT}),
        "spec.sets[1]",
        "give sha256, the digest of the set",
    ),
]

FINETUNEJOB_EDITS = [
    Edit("another model", {"spec.model.uri": "pvc://models/other"}, "spec.model"),
    Edit("other data", {"spec.data.sources.0.configMap": "orders-data-2"}, "spec.data"),
    Edit("a lower bar", {"spec.taskMetrics.0.min": "10%"}, "spec.taskMetrics"),
    Edit("another learning rate", {f"{STAGE}.training.learningRate": "1e-4"}, "spec.stages"),
    Edit("one stage more", {"spec.stages.1": SECOND_STAGE}, "spec.stages"),
    Edit(
        "the stages in another order",
        {"spec.stages": [{"name": name, "method": "SFT"} for name in ("b", "a")]},
        "spec.stages",
        before={"spec.stages": [{"name": name, "method": "SFT"} for name in ("a", "b")]},
    ),
    Edit("fewer checkpoints", {"spec.evaluation.every": "50%"}, "spec.evaluation"),
    Edit("checkpoints as they come", {"spec.evaluation": LEAVE_OUT}, "spec.evaluation"),
    Edit("another gate", {"spec.gates.0.name": "orders-lenient"}, "spec.gates"),
    Edit("more memory", {"spec.resources.memory": "8Gi"}, "spec.resources"),
    Edit("resources removed", {"spec.resources": LEAVE_OUT}, "spec.resources"),
    Edit(
        "resources added",
        {"spec.resources": {"accelerator": "CPU"}},
        "spec.resources",
        before={"spec.resources": LEAVE_OUT},
    ),
    Edit(
        "pod settings added",
        {"spec.podTemplate": {"labels": {"labels.tunegate.dev/team": "a"}}},
        "spec.podTemplate",
        before={"spec.podTemplate": LEAVE_OUT},
    ),
    Edit("pod settings removed", {"spec.podTemplate": LEAVE_OUT}, "spec.podTemplate"),
    Edit("another node", {"spec.podTemplate.nodeSelector.pool": "gpu"}, "spec.podTemplate"),
    Edit("another volume", {"spec.storage.persistentVolumeClaim": "other"}, "spec.storage"),
    Edit(
        "tracking added",
        {"spec.tracking": {"wandb": {"project": "orders"}}},
        "spec.tracking",
    ),
    Edit(
        "tracking removed",
        {"spec.tracking": LEAVE_OUT},
        "spec.tracking",
        before={"spec.tracking": {"wandb": {"project": "orders"}}},
    ),
    Edit("a merged model instead of an adapter", {"spec.artifact.form": "Merged"}, "spec.artifact"),
    Edit("another target", {"spec.publish.0.uri": "pvc://models/elsewhere"}, "spec.publish"),
    Edit("publish targets removed", {"spec.publish": LEAVE_OUT}, "spec.publish"),
    Edit(
        "publish targets added",
        {"spec.publish": [{"uri": "pvc://models/orders"}]},
        "spec.publish",
        before={"spec.publish": LEAVE_OUT},
    ),
]
"""Edits of FineTuneJobs that are refused. Accepted edits are in :data:`ALLOWED_EDITS`."""

EVALGATE_EDITS = [
    Edit("another golden set", {"spec.sets.0.source.configMap": "orders-golden-v2"}, "spec.sets[0]"),
    Edit(
        "a golden set without its digest",
        {"spec.sets.0": {"name": "golden", "source": {"inline": [{"id": "a"}]}}},
        "spec.sets[0]",
    ),
    Edit("another share of sealed cases", {"spec.sets.0.sealed": "30%"}, "spec.sets[0]"),
    Edit("another name of the golden set", {"spec.sets.0.name": "orders"}, "spec.sets"),
]

ALLOWED_EDITS = {
    "FineTuneJob": [
        Edit("suspended", {"spec.suspend": True}),
        Edit(
            "suspended by a new field",
            {"spec.suspend": True},
            before={"spec.suspend": LEAVE_OUT},
        ),
        Edit("suspension removed", {"spec.suspend": LEAVE_OUT}, before={"spec.suspend": True}),
        Edit("a longer start timeout", {"spec.startTimeoutSeconds": 7200}),
        Edit("a deadline removed", {"spec.activeDeadlineSeconds": LEAVE_OUT}),
        Edit("a TTL added", {"spec.ttlSecondsAfterFinished": 3600}),
        Edit(
            "the gates in another order",
            {"spec.gates": [{"name": "b"}, {"name": "a"}]},
            before={"spec.gates": [{"name": "a"}, {"name": "b"}]},
        ),
    ],
    "EvalGate": [
        Edit("another rule", {"spec.sets.0.rules.0.minPassRate": "95%"}),
        Edit("other comparisons", {"spec.compareWith": [{"type": "BaseModel"}]}),
        Edit("longer outputs", {"spec.generation.maxNewTokens": 128}),
    ],
}
"""Edits that are accepted, by kind. CEL compares lists with map keys as sets, so the order of gates may
change."""

GOOD = {"FineTuneJob": finetunejob, "EvalGate": evalgate}
WRONG = {"FineTuneJob": FINETUNEJOB, "EvalGate": EVALGATE}
EDITS = {"FineTuneJob": FINETUNEJOB_EDITS, "EvalGate": EVALGATE_EDITS}


def wrong_manifest(kind: str, case: Wrong) -> dict[str, Any]:
    return changed(GOOD[kind](), case.changes)


def edit(kind: str, case: Edit) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the valid manifest before the edit, and the manifest after the edit."""
    before = changed(GOOD[kind](), case.before)
    return before, changed(before, case.changes)
