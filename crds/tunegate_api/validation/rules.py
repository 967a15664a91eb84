"""The rules between fields of a manifest, grouped by the type that has the fields.

The CRDs contain the same rules in CEL, so `kubectl apply` and `tunegate validate` report the same errors with
the same messages. Constraints of a single value are declared with its type, as ``Between`` and ``Form``.
"""

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.case_source import CaseSource
from tunegate_api.v1alpha2.compared import ComparedSubject
from tunegate_api.v1alpha2.data import (
    Columns,
    Data,
    DataSource,
    Source,
)
from tunegate_api.v1alpha2.data_checks import DataCheck
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.evaluation import STEPS, EvaluationSettings
from tunegate_api.v1alpha2.finetunejob import (
    FineTuneJob,
    FineTuneJobSpec,
    ModelSource,
    SchemaSource,
)
from tunegate_api.v1alpha2.pods import (
    ALLOWED_LABELS,
    CONFINEMENT_KEYS,
    LABELS_MESSAGE,
    OWNED_KEYS,
    EnvVar,
    PodTemplate,
    Resources,
    Volume,
)
from tunegate_api.v1alpha2.stages import (
    FIELDS_FOR_ARGS,
    OPTIMIZERS,
    TRAINER_ARGS,
    Adapter,
    Stage,
    Training,
)
from tunegate_api.v1alpha2.tracking import Tracking
from tunegate_api.validation.constraints import FieldRule, Keys, Known, OneOf, Refers, Refuse, Unique
from tunegate_api.validation.metric_rules import METRIC_RULES
from tunegate_api.validation.predicates import (
    any_entry,
    below,
    equal,
    first_entry,
    given,
    lacks_percent_sign,
    list_contains,
    longer_than,
    matches,
    more_entries,
    names_entry,
    not_divisible,
    same,
)
from tunegate_api.validation.set_rules import GRADER_REFERENCES, SET_RULES

ALL_LINEAR = "all-linear"
"""The value of ``targetModules`` for all linear layers. PEFT expands it only if it is the only entry."""

_KEY = Refuse(
    given("key") & ~given("configMap"),
    "key is an entry of a ConfigMap: give configMap, or leave key out",
    at=("key",),
)
_SECRET = Refuse(
    given("secretName") & ~given("uri"),
    "secretName is for the credentials of uri: give uri, or leave secretName out",
    at=("secretName",),
)
_SOURCE = (OneOf(("uri", "configMap")), _KEY, _SECRET)
_OWNED = "the operator or the cluster sets keys of tunegate.dev, of Jobs and of Kueue: leave them out"
_OF_ADAMW = ("adam_beta1", "adam_beta2", "adam_epsilon")
_HAS_MINIMUM = matches("minPassRate", "[1-9]")
_COMPARES = given("failAtDrop") | given("test") | given("maxRelativeDrop") | given("maxNewFailures")
_HAS_NO_BASELINE = given("compareWith") & ~longer_than("compareWith", 0)
_IS_CPU = equal("accelerator", "CPU")
_IS_DPO = equal("method", "DPO")
_IS_MIX = equal("use", "Mix")
_IS_PREFERENCE = equal("use", "Preference")
_IS_PRODUCTION = equal("use", "Production")
_IS_TRAIN = ~given("use") | equal("use", "Train")
_HAS_PREFERENCE = any_entry("data.sources", _IS_PREFERENCE)

RULES: dict[type[ApiModel], tuple[FieldRule, ...]] = {
    ModelSource: (
        OneOf(("uri", "startFrom")),
        Refuse(
            given("revision") & matches("uri", "^(package|file|pvc|s3)://"),
            "package://, file://, pvc:// and s3:// have no revision: leave it out; the plan records the "
            "digest of the weights",
            at=("revision",),
        ),
        Refuse(
            given("revision") & matches("uri", "^oci://"),
            "the tag or digest is part of the oci:// address: leave it out, and write "
            "oci://REGISTRY/NAME@sha256:DIGEST",
            at=("revision",),
        ),
        Refuse(
            ~given("revision") & matches("uri", "^hf://"),
            "the content of an hf:// repository can change: give revision, the commit to pin",
        ),
        Refuse(
            given("sha256") & ~given("uri"),
            "sha256 pins the model at uri, and the model of startFrom is pinned by its job: give uri, or "
            "leave sha256 out",
            at=("sha256",),
        ),
        _SECRET,
    ),
    Source: _SOURCE,
    DataSource: (
        *_SOURCE,
        *(
            Refuse(given(f"columns.{name}") & is_used, f"{name} {message}", at=("columns", name))
            for is_used, names, message in (
                (
                    ~_IS_PREFERENCE,
                    ("chosen", "rejected"),
                    "is a field of preference data: leave it out, or set use: Preference",
                ),
                (
                    _IS_PREFERENCE,
                    ("completion", "messages"),
                    "is no field of preference data, which has prompt, chosen and rejected: leave it out",
                ),
                (
                    _IS_PRODUCTION,
                    ("completion", "id"),
                    "is no field of production inputs, which have prompt or messages: leave it out",
                ),
            )
            for name in names
        ),
        Refuse(
            given("weight") & ~_IS_MIX,
            "weight is how often rows of a Mix are trained on: leave it out, or set use: Mix",
            at=("weight",),
        ),
    ),
    Columns: (
        Refuse(
            given("messages") & (given("prompt") | given("completion")),
            "messages already includes prompt and completion: leave out messages, or prompt and completion",
            at=("messages",),
        ),
        Refuse(
            same("completion", "prompt"),
            "completion and prompt name the same field: name the field with the answer as completion",
            at=("completion",),
        ),
        Refuse(
            same("chosen", "prompt") | same("rejected", "prompt") | same("chosen", "rejected"),
            "prompt, chosen and rejected must name different fields: two of them name the same field",
        ),
    ),
    DataCheck: (
        Refuse(
            equal("name", "Distribution") & below("max", 50),
            "max of Distribution is an area under the ROC curve: must be at least 50%",
            at=("max",),
        ),
    ),
    Data: (
        Unique("sources", "name"),
        Unique("checks", "name"),
        Refuse(
            given("sources") & ~any_entry("sources", _IS_TRAIN),
            "no source has use: Train: give the labeled rows to train on as a source without use",
            at=("sources",),
        ),
        *(
            Refuse(
                more_entries("sources", is_used, number),
                f"more than {number} {'source has' if number == 1 else 'sources have'} use: {use}: remove "
                "the others, or change their use",
                at=("sources",),
            )
            for use, is_used, number in (
                ("Train", _IS_TRAIN, 1),
                ("Mix", _IS_MIX, 8),
                ("Preference", _IS_PREFERENCE, 1),
                ("Production", _IS_PRODUCTION, 1),
            )
        ),
    ),
    SchemaSource: (OneOf(("inline", "configMap")), _KEY),
    **METRIC_RULES,
    Adapter: (
        OneOf(("type", "from")),
        *(
            Refuse(
                given("from") & given(name),
                "the adapter of the previous stage cannot be changed: leave this out, or give type "
                "instead of from",
                at=(name,),
            )
            for name in ("r", "alpha", "dropout", "targetModules")
        ),
        Refuse(
            list_contains("targetModules", ALL_LINEAR) & longer_than("targetModules", 1),
            f"{ALL_LINEAR} already includes every linear layer: leave the other names out, or all-linear",
            at=("targetModules",),
        ),
    ),
    Training: (
        OneOf(("epochs", "maxSteps"), required=False),
        Known("trainerArgs", TRAINER_ARGS, FIELDS_FOR_ARGS),
        *(
            Refuse(
                equal(f"trainerArgs.{name}", *OPTIMIZERS),
                f"{name} must be a number, but its value is an optimizer: give the optimizer as optim",
                at=("trainerArgs",),
            )
            for name in _OF_ADAMW
        ),
        Refuse(
            given("trainerArgs.optim") & ~equal("trainerArgs.optim", *OPTIMIZERS),
            f"optim must be {', '.join(OPTIMIZERS[:-1])} or {OPTIMIZERS[-1]}",
            at=("trainerArgs",),
        ),
        *(
            Refuse(
                equal("trainerArgs.optim", "adafactor") & given(f"trainerArgs.{name}"),
                f"{name} is only for AdamW, but optim is adafactor: leave out {name} or optim",
                at=("trainerArgs",),
            )
            for name in _OF_ADAMW
        ),
    ),
    Stage: (
        Refuse(
            given("quantization") & ~given("adapter"),
            "a quantized base is frozen and cannot be trained: give an adapter",
            at=("quantization",),
        ),
        *(
            Refuse(
                equal("method", "SFT") & given(f"training.{name}"),
                f"{name} is only for DPO, and this stage is SFT: leave it out",
                at=("training", name),
            )
            for name in ("beta", "loss")
        ),
        Refuse(
            _IS_DPO & given("adapter.dropout"),
            "DPO trains without dropout: leave dropout out",
            at=("adapter", "dropout"),
        ),
        Unique("gates", "name"),
    ),
    Resources: (
        Refuse(
            _IS_CPU & given("gpu"),
            "gpu is set, but the accelerator is CPU: leave gpu out, or set accelerator: GPU",
            at=("gpu",),
        ),
    ),
    PodTemplate: (
        Keys("labels", ALLOWED_LABELS, LABELS_MESSAGE),
        Keys("annotations", OWNED_KEYS, _OWNED, never=True),
        Keys(
            "annotations",
            CONFINEMENT_KEYS,
            "the AppArmor profile cannot be changed: leave it out",
            never=True,
        ),
        Unique("env", "name"),
        Unique("volumes", "name"),
        Unique("volumeMounts", "mountPath"),
        Refers("volumeMounts", "volumes"),
    ),
    EnvVar: (OneOf(("value", "valueFrom"), required=False),),
    Tracking: (
        Refuse(
            ~given("mlflow") & ~given("wandb"),
            "tracking needs a tracker: give mlflow, wandb or both, or leave tracking out",
        ),
    ),
    Volume: (OneOf(("configMap", "secret", "persistentVolumeClaim", "emptyDir", "ephemeral", "csi")),),
    FineTuneJobSpec: (
        Refuse(
            given("data.quality.grader.gate")
            & given("gates")
            & ~names_entry("data.quality.grader.gate", "gates"),
            "the gate of a grader must be one of gates: add it to gates, or name a grader of another gate",
            at=("data", "quality", "grader", "gate"),
        ),
        Unique("taskMetrics", "name"),
        Unique("stages", "name"),
        Unique("gates", "name"),
        Unique("publish", "uri"),
        Refuse(
            first_entry("stages", given("adapter.from")),
            "the first stage has no previous adapter: give type: LoRA instead of from: Previous",
            at=("stages", 0, "adapter", "from"),
        ),
        Refuse(
            not_divisible("stages", "training.batchSize", "resources.nodes", "resources.gpu.count"),
            "a batch is divided equally among all GPUs of all nodes: make each batchSize a multiple of the "
            "number of GPUs",
            at=("stages",),
        ),
        Refuse(
            any_entry("stages", _IS_DPO) & given("data.sources") & ~_HAS_PREFERENCE,
            "a DPO stage needs preference data: add a source with use: Preference, or use SFT",
            at=("data", "sources"),
        ),
        Refuse(
            _HAS_PREFERENCE & any_entry("stages", ~_IS_DPO) & ~any_entry("stages", _IS_DPO),
            "preference data is only for DPO stages, and the job has no DPO stage: leave the source with "
            "use: Preference out, or add a DPO stage",
            at=("data", "sources"),
        ),
        Refuse(
            any_entry("taskMetrics", equal("type", "PreferenceAccuracy"))
            & given("data.sources")
            & ~_HAS_PREFERENCE,
            "PreferenceAccuracy is measured on held-out pairs: add a source with use: Preference, or leave "
            "the metric out",
            at=("taskMetrics",),
        ),
    ),
    FineTuneJob: (
        Refuse(
            same("spec.model.startFrom", "metadata.name"),
            "a job cannot start from itself: name the job that trained the model",
            at=("spec", "model", "startFrom"),
        ),
    ),
    CaseSource: (OneOf(("builtin", "configMap", "uri", "inline")), _KEY, _SECRET),
    **SET_RULES,
    EvaluationSettings: (Refuse(lacks_percent_sign("every"), STEPS.message, at=("every",)),),
    ComparedSubject: tuple(
        rule
        for name, type_, fields in (
            ("version", "Version", "uri and digest"),
            ("endpoint", "Endpoint", "url and model"),
        )
        for rule in (
            Refuse(
                equal("type", type_) & ~given(name),
                f"required with type: {type_}: give {name}, with {fields}",
                at=(name,),
            ),
            Refuse(
                given(name) & ~equal("type", type_),
                f"{name} is only for type: {type_}: leave it out, or change type",
                at=(name,),
            ),
        )
    ),
    EvalGateSpec: (
        Unique("sets", "name"),
        Refuse(
            given("sets") & ~any_entry("sets", ~given("kind") | equal("kind", "Golden")),
            "a gate needs a golden set: give one with kind: Golden",
            at=("sets",),
        ),
        Refuse(
            more_entries("sets", ~given("kind") | equal("kind", "Golden"), 1)
            | more_entries("sets", equal("kind", "Safety"), 1),
            "a gate has one set of each kind: move the cases of both into one set",
            at=("sets",),
        ),
        Unique("compareWith", "type"),
        Refuse(
            _HAS_NO_BASELINE
            & ~any_entry("sets", equal("kind", "Safety"))
            & ~any_entry("sets", any_entry("rules", _HAS_MINIMUM)),
            "compareWith is empty, and no rule has minPassRate, so every model passes: add minPassRate to a "
            "rule, or an entry to compareWith",
            at=("compareWith",),
        ),
        Refuse(
            _HAS_NO_BASELINE & any_entry("sets", ~equal("kind", "Safety") & any_entry("rules", _COMPARES)),
            "failAtDrop, test, maxRelativeDrop and maxNewFailures compare with other models: add an entry to "
            "compareWith, or leave them out",
            at=("sets",),
        ),
        *GRADER_REFERENCES,
    ),
}
"""Maps a type to its rules, which apply to every field of this type."""
