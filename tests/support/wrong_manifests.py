"""Wrong manifests, at least one for each rule of the API, as a list to read.

Each says what to change in the good manifests of ``support.manifests``, where the fault is found, and what
the message must say to do. The same table is asked of the API server and of ``tunegate validate``, and makes
docs/api/refused.md.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from support.manifests import LEAVE_OUT, Changes, changed, evalgate, finetunejob

STAGE = "spec.stages.0"
POD = "spec.podTemplate"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/trainer"
JUDGE = {
    "endpoint": {"url": "https://judge.internal/v1", "model": "judge"},
    "calibration": {"source": {"configMap": "scored"}, "minRecall": "0.7", "minSpecificity": "0.8"},
}
REVIEW = {"review": "Judge", "judge": JUDGE}
ENDPOINT = {"url": "https://guard.internal/v1", "model": "guard"}
SAFETY = {"source": {"builtin": "refusals-v1"}}
DPO_STAGE = {"name": "dpo", "method": "DPO", "adapter": {"type": "LoRA"}}
SECOND_STAGE = {"name": "more", "method": "SFT", "adapter": {"from": "Previous"}}


ALLOWED_ARGS = "may only have adam_beta1, adam_beta2, adam_epsilon, optim"
TRAINER_ARGS: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
    (
        "an argument of TRL that has a field of its own",
        {"learning_rate": "1e-4"},
        ALLOWED_ARGS,
        {
            "told": "use the field training.learningRate, or leave it out",
            "below": ".learning_rate",
        },
    ),
    (
        "an argument of TRL that nothing here could bear",
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
            f"{name} must be a number, but this is an optimizer: give it as optim",
            {},
        )
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon")
    ),
    *(
        (
            f"{name} beside Adafactor",
            {"optim": "adafactor", name: "0.5"},
            f"{name} is only for AdamW, but optim is adafactor: leave one of them out",
            {},
        )
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon")
    ),
]


@dataclass(frozen=True)
class Wrong:
    """One wrong manifest."""

    name: str
    changes: Changes
    field: str
    """Where the API server finds it."""
    remedy: str
    """What it says to do."""
    told: str = ""
    """How ``tunegate validate`` says the same, where its words are others."""
    below: str = ""
    """Where below ``field`` ``tunegate validate`` finds it: it can name an entry of a list."""


@dataclass(frozen=True)
class Edit:
    """A change to an object that exists."""

    name: str
    changes: Changes
    field: str = ""
    """Where the API server finds it, if it is refused."""
    before: Changes = dataclasses.field(default_factory=dict)
    """What to change in the good manifest first."""


FINETUNEJOB = [
    # metadata
    Wrong(
        "a name that no label can hold",
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
    Wrong("a model from nowhere", {"spec.model": {}}, "spec.model", "give exactly one of uri and startFrom"),
    Wrong(
        "a model from two places",
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
        "a model by a scheme that does not exist",
        {"spec.model.uri": "ftp://models/base"},
        "spec.model.uri",
        "must begin with hf://, s3://, oci://, pvc://, file:// or package://",
    ),
    Wrong(
        "a model of a hub that is not pinned",
        {"spec.model": {"uri": "hf://org/base"}},
        "spec.model",
        "the content of an hf:// repository can change: give revision, the commit to pin",
    ),
    Wrong(
        "a commit in the name of a model",
        {"spec.model": {"uri": "hf://org/base@main", "revision": "main"}},
        "spec.model.uri",
        "must name a repository, hf://ORG/NAME: give the commit as revision",
    ),
    Wrong(
        "a bucket without a folder",
        {"spec.model.uri": "s3://models"},
        "spec.model.uri",
        "must name a bucket and a folder in it, s3://BUCKET/PREFIX",
    ),
    Wrong(
        "an artifact without a tag",
        {"spec.model.uri": "oci://registry.internal:5000/team/base"},
        "spec.model.uri",
        "must name an artifact with a tag or a digest, oci://REGISTRY/NAME:TAG",
    ),
    Wrong(
        "a revision beside a tag",
        {"spec.model": {"uri": "oci://registry.internal/team/base:v1", "revision": "v1"}},
        "spec.model.revision",
        "the tag or digest is part of the oci:// address: leave it out",
    ),
    Wrong(
        "a volume without a path",
        {"spec.model.uri": "pvc://models"},
        "spec.model.uri",
        "must name a claim and a path in it, pvc://CLAIM/PATH",
    ),
    Wrong(
        "a claim that none can have",
        {"spec.model.uri": "pvc://My_Claim/base"},
        "spec.model.uri",
        "the claim must be lower-case letters, digits, dashes and dots",
    ),
    Wrong(
        "a claim that is too long",
        {"spec.model.uri": f"pvc://{'c' * 254}/base"},
        "spec.model.uri",
        "the claim must have at most 253 characters",
    ),
    Wrong(
        "a path out of its volume",
        {"spec.model.uri": "pvc://models/../secrets"},
        "spec.model.uri",
        'the path must stay inside the claim, without ".."',
    ),
    Wrong(
        "a revision of what has none",
        {"spec.model.revision": "main"},
        "spec.model.revision",
        "package://, file://, pvc:// and s3:// have no revision: leave it out",
    ),
    Wrong(
        "credentials for a job",
        {"spec.model": {"startFrom": "orders-v1", "secretName": "hub-token"}},
        "spec.model.secretName",
        "is for the credentials of uri, but uri is not set: leave it out",
    ),
    Wrong(
        "a job that starts from itself",
        {"spec.model": {"startFrom": "orders"}},
        "spec.model.startFrom",
        "a job cannot start from itself: name the job that made the model",
    ),
    # trainerArgs
    Wrong(
        "an optimizer that nobody tested",
        {f"{STAGE}.training.trainerArgs": {"optim": "sgd"}},
        "spec.stages[0].training.trainerArgs",
        "optim must be adamw_torch, adamw_torch_fused or adafactor",
        told="must be the name of an optimizer, or a number in quotes of at least 0 and below 1",
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
        "a goal that nobody knows",
        {"spec.data.goal": "Chat"},
        "spec.data.goal",
        'supported values: "StyleOrFormat", "DomainVocabulary", "TaskSpecialization", "InstructionFollowing"',
        "must be one of StyleOrFormat, DomainVocabulary, TaskSpecialization, InstructionFollowing",
    ),
    Wrong(
        "data from nowhere",
        {"spec.data.train": {}},
        "spec.data.train",
        "give exactly one of uri and configMap",
    ),
    Wrong(
        "data from two places",
        {"spec.data.train.uri": "pvc://datasets/orders.jsonl"},
        "spec.data.train",
        "give exactly one of uri and configMap",
        below=".configMap",
    ),
    Wrong(
        "data by a scheme that is for models",
        {"spec.data.train": {"uri": "oci://registry.internal/orders:v1"}},
        "spec.data.train.uri",
        "must begin with pvc://, file://, hf:// or s3://",
    ),
    Wrong(
        "a folder of a bucket as data",
        {"spec.data.train": {"uri": "s3://bucket/orders/"}},
        "spec.data.train.uri",
        "must name a bucket and a file in it, s3://BUCKET/KEY",
    ),
    Wrong(
        "data of a hub that is no file of a data set",
        {"spec.data.train": {"uri": "hf://org/orders"}},
        "spec.data.train.uri",
        "must name a file of a data set, hf://datasets/ORG/NAME/PATH",
    ),
    Wrong(
        "a key without a ConfigMap",
        {"spec.data.train": {"uri": "pvc://datasets/orders.jsonl", "key": "train.jsonl"}},
        "spec.data.train.key",
        "key is an entry of a ConfigMap, but configMap is not set: give configMap, or leave key out",
    ),
    Wrong(
        "a key that no ConfigMap has",
        {"spec.data.train.key": "train/rows"},
        "spec.data.train.key",
        "must be a key of a ConfigMap: letters, digits, dots, dashes and underscores",
    ),
    Wrong(
        "a ConfigMap that none can be",
        {"spec.data.train.configMap": "Orders"},
        "spec.data.train.configMap",
        "must be lower-case letters, digits and dashes",
    ),
    Wrong(
        "credentials for a ConfigMap",
        {"spec.data.train.secretName": "bucket"},
        "spec.data.train.secretName",
        "is for the credentials of uri, but uri is not set: leave it out",
    ),
    Wrong(
        "half a digest",
        {"spec.data.train.sha256": "4be10c2a"},
        "spec.data.train.sha256",
        "must be the 64 hexadecimal digits that sha256sum prints",
    ),
    Wrong(
        "chats and prompts in one file",
        {"spec.data.train.columns": {"messages": "chat", "prompt": "text"}},
        "spec.data.train.columns.messages",
        "messages includes prompt and completion: leave it out, or prompt",
    ),
    Wrong(
        "chats and completions in one file",
        {"spec.data.train.columns": {"messages": "chat", "completion": "json"}},
        "spec.data.train.columns.messages",
        "messages includes prompt and completion: leave it out, or completion",
    ),
    Wrong(
        "preferences in labelled rows",
        {"spec.data.train.columns": {"chosen": "better"}},
        "spec.data.train.columns.chosen",
        "is a field of preference data: leave it out, or move it to preference.columns",
    ),
    Wrong(
        "rejected answers in labelled rows",
        {"spec.data.train.columns": {"rejected": "worse"}},
        "spec.data.train.columns.rejected",
        "is a field of preference data: leave it out, or move it to preference.columns",
    ),
    Wrong(
        "a completion in preferences",
        {
            "spec.data.preference": {"configMap": "ranked", "columns": {"completion": "json"}},
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.preference.columns.completion",
        "preference data has the fields prompt, chosen and rejected: leave this out",
    ),
    Wrong(
        "whole chats in preferences",
        {
            "spec.data.preference": {"configMap": "ranked", "columns": {"messages": "chat"}},
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.preference.columns.messages",
        "preference data has the fields prompt, chosen and rejected: leave this out",
    ),
    Wrong(
        "the better answer in the field of the prompt",
        {
            "spec.data.preference": {"configMap": "ranked", "columns": {"prompt": "a", "chosen": "a"}},
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.preference.columns.chosen",
        "names the field of the prompt: name the field with the answer",
    ),
    Wrong(
        "the worse answer in the field of the prompt",
        {
            "spec.data.preference": {
                "configMap": "ranked",
                "columns": {"prompt": "text", "rejected": "text"},
            },
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.preference.columns.rejected",
        "names the field of the prompt: name the field with the answer",
    ),
    Wrong(
        "dropout in DPO",
        {
            "spec.data.preference": {"configMap": "ranked"},
            "spec.stages.1": {**DPO_STAGE, "adapter": {"type": "LoRA", "dropout": "0.1"}},
        },
        "spec.stages[1].adapter.dropout",
        "trains without dropout: leave it out",
    ),
    Wrong(
        "chosen and rejected in one field",
        {
            "spec.data.preference": {
                "configMap": "ranked",
                "columns": {"chosen": "answer", "rejected": "answer"},
            },
            "spec.stages.1": DPO_STAGE,
        },
        "spec.data.preference.columns.rejected",
        "name the same field: name the field of each",
    ),
    Wrong(
        "a preference metric without preferences",
        {"spec.taskMetrics": [{"name": "preference_accuracy", "min": "0.7"}]},
        "spec.taskMetrics",
        "is measured on held-out pairs: give data.preference, or leave it out",
    ),
    Wrong(
        "prompt and completion in one field",
        {"spec.data.train.columns": {"prompt": "text", "completion": "text"}},
        "spec.data.train.columns.completion",
        "names the field of the prompt: name the field with the answer",
    ),
    Wrong(
        "nothing held out",
        {"spec.data.heldOut.fraction": "0"},
        "spec.data.heldOut.fraction",
        "must be more than 0 and at most 0.5",
    ),
    Wrong(
        "most held out",
        {"spec.data.heldOut.fraction": "0.51"},
        "spec.data.heldOut.fraction",
        "must be more than 0 and at most 0.5",
    ),
    Wrong(
        "a share of long rows in per cent",
        {"spec.data.maxTooLong": "5"},
        "spec.data.maxTooLong",
        "must be at least 0 and at most 1",
    ),
    Wrong(
        "a sample larger than the data",
        {"spec.data.quality": {"sample": "1.1"}},
        "spec.data.quality.sample",
        "must be more than 0 and at most 1",
    ),
    Wrong(
        "a score in per cent",
        {"spec.data.quality": {"minScore": "90"}},
        "spec.data.quality.minScore",
        "must be at least 0 and at most 1",
    ),
    Wrong(
        "a review by a judge that is not named",
        {"spec.data.quality": {"review": "Judge"}},
        "spec.data.quality",
        "give judge, with endpoint and calibration",
    ),
    Wrong(
        "a judge beside people",
        {"spec.data.quality": {"judge": JUDGE}},
        "spec.data.quality.judge",
        "is only for review: Judge: leave it out, or set review: Judge",
    ),
    Wrong(
        "a judge at an address of no web server",
        {"spec.data.quality": changed(REVIEW, {"judge.endpoint.url": "judge.internal"})},
        "spec.data.quality.judge.endpoint.url",
        "must be an address that begins with http:// or https://",
    ),
    Wrong(
        "a judge that is tried on rows from nowhere",
        {"spec.data.quality": changed(REVIEW, {"judge.calibration.source": {}})},
        "spec.data.quality.judge.calibration.source",
        "give exactly one of uri and configMap",
    ),
    Wrong(
        "a judge that must find more than all",
        {"spec.data.quality": changed(REVIEW, {"judge.calibration.minRecall": "70"})},
        "spec.data.quality.judge.calibration.minRecall",
        "must be at least 0 and at most 1",
    ),
    Wrong(
        "a judge that must spare more than all",
        {"spec.data.quality": changed(REVIEW, {"judge.calibration.minSpecificity": "80"})},
        "spec.data.quality.judge.calibration.minSpecificity",
        "must be at least 0 and at most 1",
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
        "a schema metric without a schema",
        {"spec.taskMetrics.0.schema": LEAVE_OUT},
        "spec.taskMetrics[0]",
        "give schema.inline or schema.configMap",
    ),
    Wrong(
        "a schema for a metric that has none",
        {"spec.taskMetrics.1.schema": {"configMap": "order-schema"}},
        "spec.taskMetrics[1].schema",
        "is only for the metric json_schema: leave it out",
    ),
    Wrong(
        "a schema in two places",
        {"spec.taskMetrics.0.schema.configMap": "order-schema"},
        "spec.taskMetrics[0].schema",
        "give exactly one of inline and configMap",
        below=".configMap",
    ),
    Wrong(
        "a schema in no place",
        {"spec.taskMetrics.0.schema": {}},
        "spec.taskMetrics[0].schema",
        "give exactly one of inline and configMap",
    ),
    Wrong(
        "a key of a schema that is inline",
        {"spec.taskMetrics.0.schema.key": "schema.json"},
        "spec.taskMetrics[0].schema.key",
        "key is an entry of a ConfigMap, but configMap is not set: give configMap, or leave key out",
    ),
    Wrong(
        "a metric twice",
        {"spec.taskMetrics.1.name": "json_schema", "spec.taskMetrics.1.schema": {"inline": {}}},
        "spec.taskMetrics",
        "each name must be unique: change one, or leave it out",
        below="[1].name",
    ),
    Wrong(
        "a minimum in per cent",
        {"spec.taskMetrics.0.min": "98"},
        "spec.taskMetrics[0].min",
        "must be at least 0 and at most 1",
    ),
    Wrong(
        "a minimum without quotes",
        {"spec.taskMetrics.0.min": 0.98},
        "spec.taskMetrics[0].min",
        "must be of type string",
        'must be a quoted string, so that no digit is lost: write "0.98"',
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
        "more stages than a job has",
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
        "a stage name twice",
        {"spec.stages.1": {**SECOND_STAGE, "name": "sft"}},
        "spec.stages",
        "each name must be unique: change one, or leave it out",
        below="[1].name",
    ),
    Wrong(
        "a method that does not exist",
        {f"{STAGE}.method": "PPO"},
        "spec.stages[0].method",
        'supported values: "SFT", "DPO"',
        "must be one of SFT, DPO",
    ),
    Wrong(
        "an adapter of no kind",
        {f"{STAGE}.adapter": {"r": 8}},
        "spec.stages[0].adapter",
        "give exactly one of type and from",
    ),
    Wrong(
        "an adapter that is new and old",
        {"spec.stages.1": {**SECOND_STAGE, "adapter": {"type": "LoRA", "from": "Previous"}}},
        "spec.stages[1].adapter",
        "give exactly one of type and from",
        below=".from",
    ),
    Wrong(
        "an adapter from before the first stage",
        {f"{STAGE}.adapter": {"from": "Previous"}},
        "spec.stages",
        "the first stage has no previous adapter: give it type: LoRA instead of from: Previous",
        below="[0].adapter.from",
    ),
    *(
        Wrong(
            f"an old adapter with another {name}",
            {"spec.stages.1": {**SECOND_STAGE, "adapter": {"from": "Previous", name: value}}},
            f"spec.stages[1].adapter.{name}",
            "the adapter of the previous stage cannot be changed: leave this out, or give type",
        )
        for name, value in (("r", 8), ("alpha", 16), ("dropout", "0.1"), ("targetModules", ["q_proj"]))
    ),
    Wrong(
        "an adapter of no rank",
        {f"{STAGE}.adapter.r": 0},
        "spec.stages[0].adapter.r",
        "should be greater than or equal to 1",
        "must be at least 1",
    ),
    Wrong(
        "an adapter of more ranks than any layer has",
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
        "dropout of everything",
        {f"{STAGE}.adapter.dropout": "1"},
        "spec.stages[0].adapter.dropout",
        "must be at least 0 and less than 1",
    ),
    Wrong(
        "all layers and one more",
        {f"{STAGE}.adapter.targetModules": ["q_proj", "all-linear"]},
        "spec.stages[0].adapter.targetModules",
        "all-linear already includes every linear layer: leave the other names out, or all-linear",
    ),
    Wrong(
        "a frozen base and nothing else",
        {f"{STAGE}.adapter": LEAVE_OUT, f"{STAGE}.quantization": "NF4"},
        "spec.stages[0].quantization",
        "give an adapter",
    ),
    Wrong(
        "epochs and steps",
        {f"{STAGE}.training.maxSteps": 500},
        "spec.stages[0].training",
        "give at most one of epochs and maxSteps",
        below=".maxSteps",
    ),
    Wrong(
        "a word for a number",
        {f"{STAGE}.training.learningRate": "fast"},
        "spec.stages[0].training.learningRate",
        'must be a number in quotes, such as "0.9" or "2e-4"',
    ),
    Wrong(
        "a learning rate of nothing",
        {f"{STAGE}.training.learningRate": "0"},
        "spec.stages[0].training.learningRate",
        "must be more than 0 and at most 1",
    ),
    Wrong(
        "a warm-up longer than the training",
        {f"{STAGE}.training.warmupFraction": "2"},
        "spec.stages[0].training.warmupFraction",
        "must be at least 0 and at most 1",
    ),
    Wrong(
        "a negative weight decay",
        {f"{STAGE}.training.weightDecay": "-0.1"},
        "spec.stages[0].training.weightDecay",
        "must be at least 0 and at most 1",
    ),
    Wrong(
        "gradients of no length",
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
        "a loss of DPO without DPO",
        {f"{STAGE}.training.loss": "ipo"},
        "spec.stages[0].training.loss",
        "is only for DPO, and this stage is SFT: leave it out",
    ),
    Wrong(
        "a loss that nobody computes",
        {
            "spec.data.preference": {"configMap": "ranked"},
            "spec.stages.1": {**DPO_STAGE, "training": {"loss": "hinge"}},
        },
        "spec.stages[1].training.loss",
        'supported values: "sigmoid", "ipo"',
        "must be one of sigmoid, ipo",
    ),
    Wrong(
        "a beta of nothing",
        {
            "spec.data.preference": {"configMap": "ranked"},
            "spec.stages.1": {**DPO_STAGE, "training": {"beta": "0"}},
        },
        "spec.stages[1].training.beta",
        "must be more than 0",
    ),
    Wrong(
        "DPO without preferences", {"spec.stages.1": DPO_STAGE}, "spec.data", "give preference, or use SFT"
    ),
    Wrong(
        "preferences without DPO",
        {"spec.data.preference": {"configMap": "ranked"}},
        "spec.data.preference",
        "is only for DPO stages, and the job has none: leave it out, or add one",
    ),
    Wrong(
        "a stage's gate twice",
        {f"{STAGE}.gates.1": {"name": "orders-format"}},
        "spec.stages[0].gates",
        "each name must be unique: change one, or leave it out",
        below="[1].name",
    ),
    # evaluation
    Wrong(
        "a share and a number of steps",
        {"spec.evaluateEvery.steps": 5},
        "spec.evaluateEvery",
        "give at most one of fraction and steps",
        below=".steps",
    ),
    Wrong(
        "too many checkpoints",
        {"spec.evaluateEvery.fraction": "0.001"},
        "spec.evaluateEvery.fraction",
        "must be at least 0.01 and at most 1",
    ),
    Wrong(
        "no gates", {"spec.gates": []}, "spec.gates", "should have at least 1 items", "must have at least 1"
    ),
    Wrong(
        "a gate twice",
        {"spec.gates.1": {"name": "orders-golden"}},
        "spec.gates",
        "each name must be unique: change one, or leave it out",
        below="[1].name",
    ),
    # pods
    Wrong(
        "a GPU without one",
        {"spec.resources.gpu": {"count": 1}},
        "spec.resources.gpu",
        "gpu is set, but the accelerator is CPU: leave gpu out, or set accelerator: GPU",
    ),
    Wrong(
        "a batch that machines do not share evenly",
        {"spec.resources.nodes": 3, "spec.stages.0.training": {"batchSize": 8}},
        "spec.stages",
        "make each batchSize a multiple of their number",
    ),
    Wrong(
        "an amount that Kubernetes does not know",
        {"spec.resources.memory": "4 GB"},
        "spec.resources.memory",
        'must be a Kubernetes quantity, such as "4", "500m" or "24Gi"',
    ),
    Wrong(
        "more labels than a pod gets",
        {f"{POD}.labels": {f"label-{i}": "x" for i in range(33)}},
        f"{POD}.labels",
        "must have at most 32 items",
        "must have at most 32",
    ),
    *(
        Wrong(
            f"{what} in {field}",
            {f"{POD}.{field}": {key: "x"}},
            f"{POD}.{field}",
            "the operator or the cluster sets keys of tunegate.dev, of Jobs and of Kueue: leave them out",
            below=f".{key}",
        )
        for field, what, key in (
            ("labels", "a key of ours", "tunegate.dev/job"),
            ("labels", "who manages", "app.kubernetes.io/managed-by"),
            ("labels", "a key of Jobs", "job-name"),
            ("annotations", "a key of Kueue", "kueue.x-k8s.io/queue-name"),
        )
    ),
    Wrong(
        "an annotation that turns AppArmor off",
        {f"{POD}.annotations": {APPARMOR: "unconfined"}},
        f"{POD}.annotations",
        "the AppArmor profile cannot be changed: leave it out",
        below=f".{APPARMOR}",
    ),
    Wrong(
        "a priority class of the system",
        {f"{POD}.priorityClassName": "system-node-critical"},
        f"{POD}.priorityClassName",
        "must not be a priority class of the system: choose another one",
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
        "a variable twice",
        {f"{POD}.env": [{"name": "TZ", "value": "UTC"}, {"name": "TZ", "value": "CET"}]},
        f"{POD}.env",
        "each name must be unique: change one, or leave it out",
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
        "a volume of two types",
        {f"{POD}.volumes.0.emptyDir": {}},
        f"{POD}.volumes[0]",
        "give exactly one of configMap, secret, persistentVolumeClaim, emptyDir, ephemeral and csi",
        below=".emptyDir",
    ),
    Wrong(
        "a volume of no type",
        {f"{POD}.volumes.0.configMap": LEAVE_OUT},
        f"{POD}.volumes[0]",
        "give exactly one of configMap, secret, persistentVolumeClaim, emptyDir, ephemeral and csi",
    ),
    Wrong(
        "a volume by the name of one of the operator's",
        {f"{POD}.volumes.0.name": "workspace", f"{POD}.volumeMounts": []},
        f"{POD}.volumes[0].name",
        "must not be a volume of the operator: choose another name",
    ),
    Wrong(
        "a volume twice",
        {f"{POD}.volumes.1": {"name": "certificates", "emptyDir": {}}},
        f"{POD}.volumes",
        "each name must be unique: change one, or leave it out",
        below="[1].name",
    ),
    Wrong(
        "a mount of no volume",
        {f"{POD}.volumeMounts.0.name": "workspace"},
        f"{POD}.volumeMounts",
        "each name must be one of volumes: add it there, or leave the entry out",
        below="[0].name",
    ),
    Wrong(
        "a mount over the trainer",
        {f"{POD}.volumeMounts.0.mountPath": "/usr/lib/python3"},
        f"{POD}.volumeMounts[0].mountPath",
        "must be a folder below /mnt, where it hides no files of the image",
    ),
    Wrong(
        "a mount that leaves its folder",
        {f"{POD}.volumeMounts.0.mountPath": "/mnt/../tunegate"},
        f"{POD}.volumeMounts[0].mountPath",
        'must be a folder below /mnt, without ".."',
    ),
    Wrong(
        "a folder mounted over another",
        {f"{POD}.volumeMounts.1": {"name": "certificates", "mountPath": "/mnt/ca"}},
        f"{POD}.volumeMounts",
        "each mountPath must be unique: change one, or leave it out",
        below="[1].mountPath",
    ),
    # the rest
    Wrong("no volume", {"spec.storage": LEAVE_OUT}, "spec.storage", "Required value", "missing"),
    Wrong(
        "a target by a scheme that is for models",
        {"spec.publish.0.uri": "package://orders"},
        "spec.publish[0].uri",
        "must begin with pvc://, file://, s3://, oci://, hf:// or mlflow://",
    ),
    Wrong(
        "a target twice",
        {"spec.publish.1": {"uri": "pvc://models/orders"}},
        "spec.publish",
        "each uri must be unique: change one, or leave it out",
        below="[1].uri",
    ),
    Wrong(
        "more targets than a job has",
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
        "a tracker that is no web server",
        {"spec.tracking": {"mlflow": {"uri": "file:///mlruns", "experiment": "orders"}}},
        "spec.tracking.mlflow.uri",
        "must be an address that begins with http:// or https://",
    ),
    Wrong(
        "a tracker's credentials in the open",
        {"spec.tracking": {"mlflow": {"uri": "https://me:word@mlflow.internal", "experiment": "orders"}}},
        "spec.tracking.mlflow.uri",
        "name a Secret, as secretName",
    ),
    Wrong(
        "a wait that never ends",
        {"spec.startTimeoutSeconds": 10**12},
        "spec.startTimeoutSeconds",
        "should be less than or equal to 315360000",
        "must be at most 315360000",
    ),
    Wrong(
        "a switch in quotes",
        {"spec.suspend": "yes"},
        "spec.suspend",
        "must be of type boolean",
        "must be true or false, without quotes",
    ),
]

EVALGATE = [
    Wrong(
        "cases from nowhere",
        {"spec.golden.source": {}},
        "spec.golden.source",
        "give exactly one of configMap, uri and inline",
    ),
    Wrong(
        "cases from two places",
        {"spec.golden.source.uri": "pvc://datasets/golden.jsonl"},
        "spec.golden.source",
        "give exactly one of configMap, uri and inline",
        below=".uri",
    ),
    Wrong(
        "cases that are not on a volume",
        {"spec.golden.source": {"uri": "s3://bucket/golden.jsonl"}},
        "spec.golden.source.uri",
        "must begin with pvc://",
    ),
    Wrong(
        "a key without a ConfigMap",
        {"spec.golden.source": {"inline": [{"id": "a"}], "key": "golden.jsonl"}},
        "spec.golden.source.key",
        "key is an entry of a ConfigMap, but configMap is not set: give configMap, or leave key out",
    ),
    Wrong(
        "a set that nothing pins",
        {"spec.golden.sha256": LEAVE_OUT},
        "spec.golden",
        "give sha256, the digest of the set",
    ),
    Wrong(
        "a batch of nothing",
        {"spec.generation.batchSize": 0},
        "spec.generation.batchSize",
        "should be greater than or equal to 1",
        "must be at least 1",
    ),
    Wrong(
        "a pass rate in per cent",
        {"spec.thresholds.minPassRate": "90"},
        "spec.thresholds.minPassRate",
        "must be at least 0 and at most 1",
    ),
    Wrong(
        "a drop of nothing",
        {"spec.thresholds.maxDropPoints": "0"},
        "spec.thresholds.maxDropPoints",
        "must be more than 0 and at most 100",
    ),
    Wrong(
        "a drop of more than all",
        {"spec.thresholds.maxDropBetweenCheckpoints": "101"},
        "spec.thresholds.maxDropBetweenCheckpoints",
        "must be more than 0 and at most 100",
    ),
    Wrong(
        "a tag that no case can have",
        {"spec.thresholds.mustPass.0": "-edge"},
        "spec.thresholds.mustPass[0]",
        "must be letters, digits, dots, dashes and underscores, beginning with a letter or a digit",
    ),
    Wrong(
        "a tag twice",
        {"spec.thresholds.mustPass.1": "edge"},
        "spec.thresholds.mustPass",
        "each entry must be unique: change one, or leave it out",
        below="[1]",
    ),
    Wrong(
        "a baseline twice",
        {"spec.baselines.1": "BaseModel"},
        "spec.baselines",
        "each entry must be unique: change one, or leave it out",
        below="[1]",
    ),
    Wrong(
        "a baseline that does not exist",
        {"spec.baselines.1": "Champion"},
        "spec.baselines[1]",
        'supported values: "BaseModel", "LastPublished"',
        "must be one of BaseModel, LastPublished",
    ),
    Wrong(
        "nothing that could fail",
        {"spec.baselines": [], "spec.thresholds": LEAVE_OUT},
        "spec.baselines",
        "add thresholds.minPassRate, thresholds.mustPass or a baseline",
    ),
    Wrong(
        "a rate that everything passes, and nothing else",
        {"spec.baselines": [], "spec.thresholds": {"minPassRate": "0.0", "mustPass": []}},
        "spec.baselines",
        "add thresholds.minPassRate, thresholds.mustPass or a baseline",
    ),
    Wrong(
        "safety cases from nowhere",
        {"spec.safety": {"source": {}}},
        "spec.safety.source",
        "give exactly one of builtin and configMap",
    ),
    Wrong(
        "a rise of nothing",
        {"spec.safety": {**SAFETY, "maxOverRefusalIncreasePoints": "0"}},
        "spec.safety.maxOverRefusalIncreasePoints",
        "must be more than 0 and at most 100",
    ),
    Wrong(
        "a negative number of unsafe answers",
        {"spec.safety": {**SAFETY, "maxUnsafeIncrease": -1}},
        "spec.safety.maxUnsafeIncrease",
        "should be greater than or equal to 0",
        "must be at least 0",
    ),
    Wrong(
        "a scorer without its server",
        {"spec.safety": {**SAFETY, "scorer": {"type": "guardrail"}}},
        "spec.safety.scorer",
        "judge and guardrail need a server: give endpoint",
    ),
    Wrong(
        "a server for what phrases tell",
        {"spec.safety": {**SAFETY, "scorer": {"endpoint": ENDPOINT}}},
        "spec.safety.scorer.endpoint",
        "is only for the types judge and guardrail: leave it out, or set type",
    ),
    Wrong(
        "a target that is two",
        {"spec.target": {"model": "pvc://models/orders", "fineTuneJob": "orders"}},
        "spec.target",
        "give exactly one of fineTuneJob, model and endpoint",
        below=".model",
    ),
    Wrong(
        "a target that is none",
        {"spec.target": {}},
        "spec.target",
        "give exactly one of fineTuneJob, model and endpoint",
    ),
    Wrong(
        "a schedule for nothing",
        {"spec.schedule": "0 6 * * *"},
        "spec.schedule",
        "schedule needs a target to judge: give a target too, or leave it out",
    ),
    Wrong(
        "a schedule that is no cron line",
        {"spec.target": {"fineTuneJob": "orders"}, "spec.schedule": "every morning"},
        "spec.schedule",
        'must be a cron schedule of five fields, such as "0 6 * * *"',
    ),
]

FINETUNEJOB_EDITS = [
    Edit("another model", {"spec.model.uri": "pvc://models/other"}, "spec.model"),
    Edit("other data", {"spec.data.train.configMap": "orders-data-2"}, "spec.data"),
    Edit("a lower bar", {"spec.taskMetrics.0.min": "0.1"}, "spec.taskMetrics"),
    Edit("another learning rate", {f"{STAGE}.training.learningRate": "1e-4"}, "spec.stages"),
    Edit("one stage more", {"spec.stages.1": SECOND_STAGE}, "spec.stages"),
    Edit(
        "the stages in another order",
        {"spec.stages": [{"name": name, "method": "SFT"} for name in ("b", "a")]},
        "spec.stages",
        before={"spec.stages": [{"name": name, "method": "SFT"} for name in ("a", "b")]},
    ),
    Edit("fewer checkpoints", {"spec.evaluateEvery.fraction": "0.5"}, "spec.evaluateEvery"),
    Edit("checkpoints as they come", {"spec.evaluateEvery": LEAVE_OUT}, "spec.evaluateEvery"),
    Edit("another gate", {"spec.gates.0.name": "orders-lenient"}, "spec.gates"),
    Edit("more memory", {"spec.resources.memory": "8Gi"}, "spec.resources"),
    Edit("no resources any more", {"spec.resources": LEAVE_OUT}, "spec.resources"),
    Edit(
        "resources at last",
        {"spec.resources": {"accelerator": "CPU"}},
        "spec.resources",
        before={"spec.resources": LEAVE_OUT},
    ),
    Edit(
        "settings of pods at last",
        {"spec.podTemplate": {"labels": {"team": "a"}}},
        "spec.podTemplate",
        before={"spec.podTemplate": LEAVE_OUT},
    ),
    Edit("no settings of pods any more", {"spec.podTemplate": LEAVE_OUT}, "spec.podTemplate"),
    Edit("another node", {"spec.podTemplate.nodeSelector.pool": "gpu"}, "spec.podTemplate"),
    Edit("a queue at last", {"spec.queueName": "team-a"}, "spec.queueName"),
    Edit(
        "no queue any more",
        {"spec.queueName": LEAVE_OUT},
        "spec.queueName",
        before={"spec.queueName": "team-a"},
    ),
    Edit("another volume", {"spec.storage.persistentVolumeClaim": "other"}, "spec.storage"),
    Edit(
        "tracking at last",
        {"spec.tracking": {"wandb": {"project": "orders"}}},
        "spec.tracking",
    ),
    Edit(
        "no tracking any more",
        {"spec.tracking": LEAVE_OUT},
        "spec.tracking",
        before={"spec.tracking": {"wandb": {"project": "orders"}}},
    ),
    Edit("a merged model after all", {"spec.mergeAdapter": True}, "spec.mergeAdapter"),
    Edit("another target", {"spec.publish.0.uri": "pvc://models/elsewhere"}, "spec.publish"),
    Edit("no target any more", {"spec.publish": LEAVE_OUT}, "spec.publish"),
    Edit(
        "a target at last",
        {"spec.publish": [{"uri": "pvc://models/orders"}]},
        "spec.publish",
        before={"spec.publish": LEAVE_OUT},
    ),
]
"""Each is refused. What may change is in :data:`ALLOWED_EDITS`."""

EVALGATE_EDITS = [
    Edit("another golden set", {"spec.golden.source.configMap": "orders-golden-v2"}, "spec.golden"),
    Edit(
        "a golden set that nothing pins any more",
        {"spec.golden": {"source": {"inline": [{"id": "a"}]}}},
        "spec.golden",
    ),
]

ALLOWED_EDITS = {
    "FineTuneJob": [
        Edit("suspended", {"spec.suspend": True}),
        Edit(
            "suspended by a field that was not there",
            {"spec.suspend": True},
            before={"spec.suspend": LEAVE_OUT},
        ),
        Edit("not suspended any more", {"spec.suspend": LEAVE_OUT}, before={"spec.suspend": True}),
        Edit("a longer wait", {"spec.startTimeoutSeconds": 7200}),
        Edit("no deadline any more", {"spec.activeDeadlineSeconds": LEAVE_OUT}),
        Edit("a TTL at last", {"spec.ttlSecondsAfterFinished": 3600}),
        Edit(
            "the gates in another order",
            {"spec.gates": [{"name": "b"}, {"name": "a"}]},
            before={"spec.gates": [{"name": "a"}, {"name": "b"}]},
        ),
    ],
    "EvalGate": [
        Edit("other thresholds", {"spec.thresholds": {"minPassRate": "0.95"}}),
        Edit("other baselines", {"spec.baselines": ["BaseModel"]}),
        Edit("longer outputs", {"spec.generation.maxNewTokens": 128}),
    ],
}
"""Each is taken. CEL compares lists with keys as sets, and the order of gates means nothing."""

GOOD = {"FineTuneJob": finetunejob, "EvalGate": evalgate}
WRONG = {"FineTuneJob": FINETUNEJOB, "EvalGate": EVALGATE}
EDITS = {"FineTuneJob": FINETUNEJOB_EDITS, "EvalGate": EVALGATE_EDITS}


def wrong_manifest(kind: str, case: Wrong) -> dict[str, Any]:
    return changed(GOOD[kind](), case.changes)


def edit(kind: str, case: Edit) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest before and after."""
    before = changed(GOOD[kind](), case.before)
    return before, changed(before, case.changes)
