"""What fields of one manifest must agree on. Each rule reads as a sentence; all of them are checked.

Rules that say which of several fields may be given are tables, since the CRDs carry them too, as CEL.
"""

from fractions import Fraction
from urllib.parse import urlsplit

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha1.evalgate import GoldenSource, SafetySource, Target
from tunegate_api.v1alpha1.finetunejob import (
    Adapter,
    DataSource,
    EvaluateEvery,
    ModelSource,
    SchemaSource,
    Training,
)
from tunegate_api.v1alpha1.parts import Choice, Part

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
    spec.check_unique("publish", "uri")
    for target in spec.parts("publish"):
        _address(target)


def check_evalgate(spec: Part) -> None:
    """Complain about everything in an EvalGate's spec that contradicts itself."""
    _golden(spec.part("golden"))
    _thresholds(spec.part("thresholds"))
    _baselines(spec)
    safety = spec.part("safety")
    if safety:
        _source(safety.part("source"), SafetySource)
        safety.check_number("maxOverRefusalIncreasePoints", above=0, most=100)
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
    scheme = urlsplit(model.text("uri") or "").scheme
    if model.has("revision") and scheme in WITHOUT_REVISION:
        model.refuse(
            f"{scheme}:// has no revisions: leave it out, the plan records the digest of the weights",
            "revision",
        )


def _data(data: Part) -> None:
    for name in ("train", "preference", "production"):
        source = data.part(name)
        _source(source, DataSource)
        _address(source)
        columns = source.part("columns")
        if columns.has("messages") and (columns.has("prompt") or columns.has("completion")):
            columns.refuse("messages holds prompt and completion both: give either it or them", "messages")
    data.part("heldOut").check_number("fraction", above=0, most=Fraction(1, 2))
    quality = data.part("quality")
    quality.check_number("sample", above=0, most=1)
    quality.check_number("minScore", least=0, most=1)


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
    address = urlsplit(uri)
    folders = address.path.strip("/").split("/")
    if not address.netloc or folders == [""]:
        part.refuse(f'is "{uri}": must name a claim and a path in it, pvc://CLAIM/PATH', "uri")
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
    metric.check_number("min", least=0, most=1)


SHAPE = ("r", "alpha", "dropout", "targetModules")
"""The fields of an adapter that one taken from the previous stage has already."""


def _stage(stage: Part, *, first: bool) -> None:
    adapter, training = stage.part("adapter"), stage.part("training")
    if adapter:
        adapter.choose(CHOICES[Adapter])
        adapter.check_number("dropout", least=0, below=1)
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


def _no_repeats(part: Part, name: str) -> None:
    entries = part.get(name)
    if not isinstance(entries, list):
        return
    for i, entry in enumerate(entries):
        if entry in entries[:i]:
            part.refuse(f"{entry} is listed twice: each once", name, i)
