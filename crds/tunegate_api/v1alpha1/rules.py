"""What fields of one manifest must agree on. Each rule reads as a sentence; all of them are checked.

Rules that say which of several fields may be given are tables, since the CRDs carry them too, as CEL.
"""

import re
from fractions import Fraction

from tunegate_api.json_schema import schema_faults
from tunegate_api.meta import DNS_NAME_PATTERN, MAX_DNS_NAME, ApiModel
from tunegate_api.v1alpha1.evalgate import GoldenSource, SafetySource, Target
from tunegate_api.v1alpha1.explain import SHAPES
from tunegate_api.v1alpha1.finetunejob import (
    Adapter,
    DataSource,
    EvaluateEvery,
    ModelSource,
    SchemaSource,
    Training,
)
from tunegate_api.v1alpha1.parts import Choice, Part
from tunegate_api.v1alpha1.pod_rules import check_pod_template

CHOICES: dict[type[ApiModel], Choice] = {
    Adapter: Choice(("type", "from")),
    DataSource: Choice(("uri", "configMap")),
    EvaluateEvery: Choice(("fraction", "steps"), required=False),
    GoldenSource: Choice(("configMap", "uri", "inline")),
    ModelSource: Choice(("uri", "startFrom")),
    SafetySource: Choice(("builtin", "configMap")),
    SchemaSource: Choice(("inline", "configMap")),
    Target: Choice(("fineTuneJob", "model", "endpoint")),
    Training: Choice(("epochs", "maxSteps"), required=False),
}
"""Alternatives, by the type whose fields they are."""

WITHOUT_REVISION = ("package", "file", "pvc")
"""Schemes of models that have no history to pin a revision of."""


def check_finetunejob(spec: Part) -> None:
    """Complain about everything in a FineTuneJob's spec that contradicts itself."""
    _model(spec.part("model"))
    _data(spec.part("data"))
    spec.check_unique("taskMetrics", "name")
    for metric in spec.parts("taskMetrics"):
        _task_metric(metric)
    spec.check_unique("stages", "name")
    for i, stage in enumerate(spec.parts("stages")):
        _stage(stage, first=i == 0)
    _preference_data(spec)
    _evaluate_every(spec.part("evaluateEvery"))
    spec.check_unique("gates", "name")
    _resources(spec.part("resources"))
    check_pod_template(spec.part("podTemplate"))
    spec.check_unique("publish", "uri")
    for target in spec.parts("publish"):
        _address(target)


def check_evalgate(spec: Part) -> None:
    """Complain about everything in an EvalGate's spec that contradicts itself."""
    _golden(spec.part("golden"))
    _thresholds(spec.part("thresholds"))
    _baselines(spec)
    _something_can_fail(spec)
    _safety(spec.part("safety"))
    target = spec.part("target")
    if target:
        target.choose(CHOICES[Target])
    if spec.has("schedule") and not spec.has("target"):
        spec.refuse("has nothing to judge: give a target too, or leave the schedule out", "schedule")


def _model(model: Part) -> None:
    if not model:
        return
    model.choose(CHOICES[ModelSource])
    _address(model)
    scheme, _, _ = (model.text("uri") or "").partition("://")
    if model.has("revision") and scheme in WITHOUT_REVISION:
        model.refuse(
            f"{scheme}:// has no revisions: leave it out, the plan records the digest of the weights",
            "revision",
        )


def _data(data: Part) -> None:
    for name in ("train", "preference", "production"):
        _data_source(data.part(name))
    data.part("heldOut").check_number("fraction", above=0, most=Fraction(1, 2))
    quality = data.part("quality")
    quality.check_number("sample", above=0, most=1)
    quality.check_number("minScore", least=0, most=1)
    _review(quality)


def _data_source(source: Part) -> None:
    _source(source, DataSource)
    _address(source)
    _columns(source.part("columns"))


def _columns(columns: Part) -> None:
    if columns.has("messages") and (columns.has("prompt") or columns.has("completion")):
        columns.refuse("messages holds prompt and completion both: give either it or them", "messages")
    completion = columns.text("completion")
    if completion is not None and completion == columns.text("prompt"):
        columns.refuse(f"{completion} is the prompt already: name the field with the answer", "completion")


def _review(quality: Part) -> None:
    """A judge is given where it scores, with rows that prove it."""
    review = quality.text("review") if quality.has("review") else "Manual"
    if review == "Judge" and not quality.has("judge"):
        quality.refuse("review: Judge needs the model that scores: give judge, with endpoint and calibration")
    if review == "Manual" and quality.has("judge"):
        quality.refuse("belongs to review: Judge: leave it out, or set review: Judge", "judge")
    calibration = quality.part("judge").part("calibration")
    _data_source(calibration.part("source"))
    calibration.check_number("minRecall", least=0, most=1)
    calibration.check_number("minSpecificity", least=0, most=1)


def _source(source: Part, model: type[ApiModel]) -> None:
    """What all sources agree on: one place, and the fields that belong to it."""
    if not source:
        return
    source.choose(CHOICES[model])
    if source.has("key") and not source.has("configMap"):
        source.refuse("is the key in a ConfigMap, and there is none: give configMap, or leave it out", "key")
    if source.has("secretName") and not source.has("uri"):
        source.refuse("holds the credentials for uri, and there is none: leave it out", "secretName")


def _address(part: Part) -> None:
    """A pvc:// address has a claim and a path that stays inside it."""
    uri = part.text("uri")
    if uri is None or not uri.startswith("pvc://"):
        return
    claim, _, path = uri.removeprefix("pvc://").partition("/")
    folders = path.strip("/").split("/")
    if not claim or folders == [""]:
        part.refuse(f'is "{uri}": must name a claim and a path in it, pvc://CLAIM/PATH', "uri")
    elif len(claim) > MAX_DNS_NAME or not re.fullmatch(DNS_NAME_PATTERN, claim):
        part.refuse(f'is "{uri}": the claim must be {SHAPES[DNS_NAME_PATTERN]}', "uri")
    elif ".." in folders:
        part.refuse(f'is "{uri}": the path must stay inside the claim, without ".."', "uri")


def _task_metric(metric: Part) -> None:
    name = metric.text("name")
    if name == "json_schema" and not metric.has("schema"):
        metric.refuse(
            "json_schema needs the schema that outputs must follow: give schema.inline or schema.configMap"
        )
    if name not in (None, "json_schema") and metric.has("schema"):
        metric.refuse(f"belongs to json_schema, not to {name}: leave it out", "schema")
    _source(metric.part("schema"), SchemaSource)
    schema = metric.part("schema").get("inline")
    for path, fault in schema_faults(schema) if schema is not None else ():
        metric.refuse(fault, "schema", "inline", *path)
    metric.check_number("min", least=0, most=1)


ALL_LINEAR = "all-linear"
"""What stands for all linear layers in ``targetModules``."""

SHAPE = ("r", "alpha", "dropout", "targetModules")
"""The fields of an adapter that one taken from the previous stage has already."""


def _stage(stage: Part, *, first: bool) -> None:
    adapter, training = stage.part("adapter"), stage.part("training")
    if adapter:
        adapter.choose(CHOICES[Adapter])
        adapter.check_number("dropout", least=0, below=1)
        _target_modules(adapter)
    if adapter.has("from"):
        if first:
            adapter.refuse("Previous: the first stage has none before it; give type: LoRA instead", "from")
        for name in SHAPE:
            if adapter.has(name):
                adapter.refuse(
                    "the previous stage's adapter keeps its shape: leave this out, or give type", name
                )
    if stage.has("quantization") and not stage.has("adapter"):
        stage.refuse("holds the base frozen, so something else must train: give an adapter", "quantization")
    _training(training, stage.text("method"))
    stage.check_unique("gates", "name")


def _target_modules(adapter: Part) -> None:
    """PEFT expands ``all-linear`` only where it stands alone; beside names it would match no layer."""
    modules = adapter.get("targetModules")
    if isinstance(modules, list) and len(modules) > 1 and ALL_LINEAR in modules:
        adapter.refuse(
            f"{ALL_LINEAR} names every linear layer and stands alone: leave the other names out, or this one",
            "targetModules",
            modules.index(ALL_LINEAR),
        )


def _training(training: Part, method: str | None) -> None:
    if not training:
        return
    training.choose(CHOICES[Training])
    training.check_number("learningRate", above=0, most=1)
    training.check_number("warmupFraction", least=0, most=1)
    training.check_number("weightDecay", least=0, most=1)
    training.check_number("maxGradNorm", above=0)
    training.check_number("beta", above=0)
    if training.has("beta") and method == "SFT":
        training.refuse("belongs to DPO, and this stage is SFT: leave it out", "beta")


def _preference_data(spec: Part) -> None:
    data = spec.part("data")
    stages = spec.parts("stages")
    preference_stages = [stage for stage in stages if stage.text("method") == "DPO"]
    if preference_stages and data and not data.has("preference"):
        data.refuse(
            f"stage {preference_stages[0].text('name')} is DPO and learns from preferences: give preference"
        )
    if data.has("preference") and stages and all(stage.text("method") == "SFT" for stage in stages):
        data.refuse("is read by DPO stages, and there is none: leave it out, or add one", "preference")


def _evaluate_every(every: Part) -> None:
    if every:
        every.choose(CHOICES[EvaluateEvery])
        every.check_number("fraction", least=Fraction(1, 100), most=1)


def _resources(resources: Part) -> None:
    if resources.text("accelerator") != "CPU":
        return
    if resources.has("gpu"):
        resources.refuse(
            "the accelerator is CPU, which has none: leave gpu out, or set accelerator: GPU", "gpu"
        )
    if (resources.whole("nodes") or 1) > 1:
        resources.refuse("the accelerator is CPU, which trains on one machine: leave nodes out", "nodes")


def _golden(golden: Part) -> None:
    source = golden.part("source")
    _source(source, GoldenSource)
    _address(source)
    if (source.has("configMap") or source.has("uri")) and not golden.has("sha256"):
        golden.refuse("give sha256, the digest that pins the set: without it nobody notices a changed case")


def _thresholds(thresholds: Part) -> None:
    thresholds.check_number("minPassRate", least=0, most=1)
    thresholds.check_number("maxDropPoints", above=0, most=100)
    thresholds.check_number("maxDropBetweenCheckpoints", above=0, most=100)
    _no_repeats(thresholds, "mustPass")


def _baselines(spec: Part) -> None:
    _no_repeats(spec, "baselines")


def _something_can_fail(spec: Part) -> None:
    """A gate that passes every model is a mistake, not a gate."""
    thresholds = spec.part("thresholds")
    lowest = thresholds.number("minPassRate")
    has_lowest = thresholds.has("minPassRate") and lowest != 0
    if spec.get("baselines") == [] and not (has_lowest or thresholds.get("mustPass") or spec.has("safety")):
        spec.refuse(
            "is empty, and thresholds has neither minPassRate nor mustPass, so every model passes: "
            "add thresholds.minPassRate, thresholds.mustPass or a baseline",
            "baselines",
        )


def _safety(safety: Part) -> None:
    if not safety:
        return
    _source(safety.part("source"), SafetySource)
    safety.check_number("maxOverRefusalIncreasePoints", above=0, most=100)
    scorer = safety.part("scorer")
    type = scorer.text("type") if scorer.has("type") else "refusal"
    if type in ("judge", "guardrail") and not scorer.has("endpoint"):
        scorer.refuse(f"{type} is a model behind a server: give endpoint")
    if type == "refusal" and scorer.has("endpoint"):
        scorer.refuse("belongs to judge and guardrail: leave it out, or set type", "endpoint")


def _no_repeats(part: Part, name: str) -> None:
    entries = part.get(name)
    if not isinstance(entries, list):
        return
    for i, entry in enumerate(entries):
        if entry in entries[:i]:
            part.refuse(f"{entry} is listed twice: each once", name, i)
