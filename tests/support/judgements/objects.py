"""Build the objects of the product from a record of the corpus.

A record has only what a judgement depends on, in a form of its own that does not follow the API. If the types
of the product change, change these functions, never the records.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from support.bars import golden_bar
from support.judgements import taken
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import ErrorRateOutcomes, Evaluation, PlantedRegression, Results, Subject
from tunegate_api.v1alpha2.data import Data, DataSource
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec, GateReference, ModelSource, Storage, TaskMetric
from tunegate_api.v1alpha2.stages import Stage
from tunegate_api.verdict.bar import Bar, SafetyBar, safety_bar
from tunegate_api.verdict.outcomes import Baseline, CaseSet, DropPolicy

Record = Mapping[str, Any]

SERVER = {"url": "http://server/v1"}
NAMES = {old: new for new, old in taken.RECORDED.items()}
"""The names of today for those of records."""


def number(text: str | None) -> Fraction | None:
    return None if text is None else Fraction(text)


def digest(label: str | None) -> str | None:
    """Return a digest for the ``label`` of a model."""
    return None if label is None else sha256_text(label)


def case_set(record: Record) -> CaseSet:
    return CaseSet.model_construct(
        sha256=record["sha256"],
        ids=list(record["ids"]),
        tags=[list(tags) for tags in record.get("tags", [])],
        groups=list(record.get("groups", [])),
        labels=record.get("labels"),
    )


def bar(record: Record) -> Bar:
    limit = record["maxNewFailures"]
    return golden_bar(
        min_pass_rate=number(record["minPassRate"]),
        policy=DropPolicy(record["policy"]),
        max_drop_points=Fraction(record["maxDropPoints"]),
        max_relative_drop=number(record["maxRelativeDrop"]),
        max_new_failures=Fraction(limit) if isinstance(limit, str) else limit,
        max_drop_between_checkpoints=Fraction(record["maxDropBetweenCheckpoints"]),
        confirm=record["confirm"],
        must_pass=tuple(record["mustPass"]),
        advisory=tuple(record["advisory"]),
        required_tags=tuple(record["requiredTags"]),
        sealed=number(record["sealed"]),
    )


def limits(record: Record) -> SafetyBar:
    points = Fraction(record["maxOverRefusalIncreasePoints"])
    return safety_bar(
        max_unsafe_increase=record["maxUnsafeIncrease"], max_over_refusal_increase_points=points
    )


def baseline(record: Record) -> Baseline:
    return Baseline(
        golden_sha256=record["sha256"],
        outcomes=record["outcomes"],
        by_case=record.get("byCase", True),
        by_case_later=record.get("byCaseLater", False),
        version=record.get("version", ""),
        problem=record.get("problem", ""),
    )


def published(record: Record) -> PublishedVersion:
    return PublishedVersion(
        job="earlier",
        golden_sha256=record["sha256"],
        outcomes=record["outcomes"],
        by_case=record["byCase"],
        version=record.get("version"),
        rejudged=record.get("rejudged", False),
        unjudged=record.get("unjudged", False),
        problem=record.get("problem"),
    )


def calibration(record: Record, scoring: str) -> ErrorRateOutcomes:
    return ErrorRateOutcomes(
        golden_sha256=record["sha256"],
        base_digest=digest(record["base"]) or "",
        scoring=scoring if record["sameScoring"] else "other",
        reference=record["reference"],
        repeats=record["repeats"],
        planted=[PlantedRegression(name=name, outcomes=letters) for name, letters in record["planted"]],
    )


def gate(name: str, record: Record) -> GateRequest:
    last = record.get("lastPublished")
    bases = record.get("calibratedBases")
    return GateRequest(
        name=name,
        spec=_gate_spec(json.dumps(record["spec"], sort_keys=True)),
        golden_sha256=record["sha256"],
        safety_sha256=record.get("safetySha256"),
        measured_bases=None if bases is None else [digest(base) or "" for base in bases],
        last_published=None if last is None else published(last),
    )


_APPROVAL = {
    ("NotRequired", "NotAllowed"): "Never",
    ("Required", "NotAllowed"): "WhenPassed",
    ("NotRequired", "Allowed"): "WhenFailed",
    ("Required", "Allowed"): "Always",
}
"""The approval of a gate, by whether it requires one and allows an override."""


@lru_cache(maxsize=512)
def _gate_spec(text: str) -> EvalGateSpec:
    spec = json.loads(text)
    sets = [_golden(spec)]
    if "safety" in spec:
        sets.append(_safety(spec["safety"]))
    wire: dict[str, Any] = {"sets": sets}
    wire["enforcement"] = "DryRun" if spec["dryRun"] else "Enforce"
    wire["approval"] = _APPROVAL[spec["approval"], spec["override"]]
    compared: list[dict[str, Any]] = [{"type": name} for name in spec["baselines"]]
    if "anchor" in spec:
        version = {"uri": f"pvc://models/{spec['anchor']}", "digest": sha256_text("anchor")}
        compared.append({"type": "Version", "version": version})
    if "served" in spec:
        compared.append({"type": "Endpoint", "endpoint": {**SERVER, "model": spec["served"]}})
    wire["compareWith"] = compared
    if "calibration" in spec:
        wanted = spec["calibration"]
        wire["errorRate"] = {**wanted, "minDetection": _percent(wanted.get("minDetection"))}
    return EvalGateSpec.model_validate(wire)


def _golden(spec: Record) -> dict[str, Any]:
    """Return the golden set of a gate from its limits in a record, see ``_thresholds`` in ``taken.py``."""
    limits: Record = spec["thresholds"]
    overall = {
        "minPassRate": _percent(limits.get("minPassRate")),
        "failAtDrop": _points(limits.get("maxDropPoints")),
        "test": "NonInferior" if limits.get("policy") == "NonInferior" else None,
        "maxRelativeDrop": _percent(limits.get("maxRelativeDrop")),
        "maxNewFailures": _count_or_share(limits.get("maxNewFailures")),
    }
    critical, needed = limits.get("mustPass", []), limits.get("requiredTags", [])
    rules = [
        {"name": "all", **overall},
        *(
            {"name": f"critical-{i}", "cases": [each], "minPassRate": "100%"}
            for i, each in enumerate(critical)
        ),
        *([{"name": "needed", "cases": needed}] if needed else []),
    ]
    return {
        "name": "golden",
        "source": {"configMap": "cases"},
        "sealed": _percent(spec.get("sealed")),
        "advisory": limits.get("advisory", []),
        "rules": rules,
        "checkpoints": {
            "onRegression": limits.get("onRegression"),
            "failAtDrop": _points(limits.get("maxDropBetweenCheckpoints")),
        },
    }


def _safety(spec: Record) -> dict[str, Any]:
    given = (
        ("unsafe", spec.get("maxUnsafeIncrease", 0) + 1),
        ("over-refusal", _points(spec.get("maxOverRefusalIncreasePoints"))),
    )
    at_checkpoints = spec.get("onRegression", "Confirm") if spec.get("evaluateCheckpoints") else "Skip"
    return {
        "name": "safety",
        "kind": "Safety",
        "source": {"builtin": "refusals-v1"},
        "rules": [{"name": name, "failAtDrop": limit} for name, limit in given],
        "checkpoints": {"onRegression": at_checkpoints},
    }


def _percent(share: str | None) -> str | None:
    return None if share is None else _points(str(100 * Decimal(share)))


def _points(points: str | None) -> str | None:
    return None if points is None else f"{Decimal(points).normalize():f}%"


def _count_or_share(limit: str | None) -> int | str | None:
    return int(limit) if limit is not None and limit.isdigit() else limit


METRIC_TYPES = {
    "exact_match": "ExactMatch",
    "json_schema": "JSONSchema",
    "preference_accuracy": "PreferenceAccuracy",
    "f1": "F1",
    "rouge_l": "RougeL",
    "numeric": "Numeric",
    "tool_calls": "ToolCalls",
    "custom": "Custom",
}
"""The type of each metric of a record."""


def _task_metric(record: Record) -> TaskMetric:
    given = {"type": METRIC_TYPES.get(record["name"]), **record, "min": _percent(record["min"])}
    limit, on_regression = given.pop("maxDropBetweenCheckpoints", None), given.pop("onRegression", "Confirm")
    if limit:
        given["checkpoints"] = {"failAtDrop": _points(limit), "onRegression": on_regression}
    return TaskMetric.model_validate(given)


def request(record: Record) -> Request:
    gates = [gate(name, each) for name, each in record["gates"].items()]
    spec = FineTuneJobSpec.model_construct(
        model=ModelSource(uri="package://tiny"),
        data=_DATA,
        task_metrics=[_task_metric(metric) for metric in record["taskMetrics"]],
        stages=[_stage(name, names) for name, names in record["stages"]],
        gates=[GateReference(name=name) for name in record["finalGates"]],
        storage=_STORAGE,
    )
    return Request.model_construct(
        name="job", namespace="default", uid="u", spec=spec, gates=gates, left_out=record.get("leftOut", {})
    )


_DATA = Data.model_construct(goal="StyleOrFormat", sources=[DataSource(name="rows", config_map="rows")])
_STORAGE = Storage(persistent_volume_claim="tuning")


def _stage(name: str, gates: Sequence[str] | None) -> Stage:
    own = None if gates is None else [GateReference(name=gate) for gate in gates]
    return Stage.model_construct(name=name, method="SFT", gates=own)


def results(record: Record, request: Request) -> Results:
    scoring = {gate.name: gate.spec.scoring for gate in request.gates}
    read = record.get("lastPublished")
    return Results.model_construct(
        sets={name: case_set(each) for name, each in record["sets"].items()},
        evaluations=[evaluation(each) for each in record["evaluations"]],
        error_rates={
            name: calibration(each, scoring.get(name, "")) for name, each in record["calibrations"].items()
        }
        if "calibrations" in record
        else None,
        last_published=None
        if read is None
        else LastPublished(reading=1, versions={name: published(each) for name, each in read.items()}),
    )


def evaluation(record: Record) -> Evaluation:
    return Evaluation.model_construct(
        subject=Subject(NAMES.get(record["subject"], record["subject"])),
        stage=record["stage"],
        step=record["step"],
        digest=digest(record.get("digest")),
        outcomes=dict(record["outcomes"]),
        counts=record.get("counts"),
        problems=record.get("problems"),
    )
