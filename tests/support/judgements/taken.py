"""Build a record of the corpus from product objects: the opposite of :mod:`support.judgements.objects`.

Each Python process imports this module while it starts, so it must not import the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunegate_api.contract.published import PublishedVersion
    from tunegate_api.contract.request import GateRequest, Request
    from tunegate_api.contract.results import ErrorRateOutcomes, Evaluation, Results
    from tunegate_api.v1alpha2.sets import GateSet
    from tunegate_api.verdict.bar import Bar, SafetyBar
    from tunegate_api.verdict.outcomes import Baseline, CaseSet


RECORDED = {
    "Version": "Anchor",
    "Endpoint": "Served",
    "unsafe": "maxUnsafeIncrease",
    "over-refusal": "maxOverRefusalIncreasePoints",
}
"""The names of baselines in records, where they differ from those of today."""


class Labels:
    """Short names for digests of models, which are different in each run."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, digest: str) -> str:
        return self._known.setdefault(digest, f"model-{len(self._known) + 1}")


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {name: each for name, each in fields.items() if each is not None}


def case_set(cases: CaseSet) -> dict[str, Any]:
    found = {
        "sha256": cases.sha256,
        "ids": [*cases.ids],
        "tags": [[*tags] for tags in cases.tags],
        "groups": [*cases.groups],
        "labels": cases.labels,
    }
    return {name: each for name, each in found.items() if each or name in ("sha256", "ids")}


def bar(bar: Bar) -> dict[str, Any]:
    limit = bar.new_failures.most
    shares = [rule.most for rule in bar.rules if rule.name == "maxRelativeDrop"]
    return {
        "minPassRate": _text(bar.min_pass_rate),
        "policy": str(bar.drop.policy),
        "maxDropPoints": str(bar.drop.limit),
        "maxRelativeDrop": _text(shares[0] if shares else None),
        "maxNewFailures": limit if isinstance(limit, int) else _text(limit),
        "maxDropBetweenCheckpoints": str(bar.between_checkpoints.limit),
        "confirm": bar.confirm,
        "mustPass": [*bar.must_pass],
        "advisory": [*bar.advisory],
        "requiredTags": [*bar.required_tags],
        "sealed": _text(bar.sealed),
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def limits(bar: SafetyBar) -> dict[str, Any]:
    return {
        "maxUnsafeIncrease": int(bar.unsafe.limit) - 1,
        "maxOverRefusalIncreasePoints": str(bar.over_refusal.limit),
    }


def baseline(baseline: Baseline) -> dict[str, Any]:
    return {
        "sha256": baseline.golden_sha256,
        "outcomes": baseline.outcomes,
        "byCase": baseline.by_case,
        "byCaseLater": baseline.by_case_later,
        "version": baseline.version,
        "problem": baseline.problem,
    }


def published(version: PublishedVersion) -> dict[str, Any]:
    return _given(
        sha256=version.golden_sha256,
        outcomes=version.outcomes,
        byCase=version.by_case,
        version=version.version,
        rejudged=version.rejudged,
        unjudged=version.unjudged,
        problem=version.problem,
    )


def calibration(found: ErrorRateOutcomes, scoring: str, labels: Labels) -> dict[str, Any]:
    return {
        "sha256": found.golden_sha256,
        "base": labels.of(found.base_digest),
        "sameScoring": found.scoring == scoring,
        "reference": found.reference,
        "repeats": [*found.repeats],
        "planted": [[one.name, one.outcomes] for one in found.planted],
    }


def gate(gate: GateRequest, labels: Labels) -> dict[str, Any]:
    last, bases = gate.last_published, gate.measured_bases
    return _given(
        spec=_spec(gate),
        sha256=gate.golden_sha256,
        safetySha256=gate.safety_sha256,
        calibratedBases=None if bases is None else [labels.of(base) for base in bases],
        lastPublished=None if last is None else published(last),
    )


def _spec(gate: GateRequest) -> dict[str, Any]:
    spec = gate.spec
    safety = spec.safety and _given(
        sha256=spec.safety.sha256,
        maxUnsafeIncrease=int(spec.safety.rule("unsafe").fail_at_drop) - 1,
        maxOverRefusalIncreasePoints=spec.safety.rule("over-refusal").fail_at_drop[:-1],
        evaluateCheckpoints=spec.safety.evaluates_checkpoints,
        onRegression=spec.safety.checkpoints.on_regression if spec.safety.evaluates_checkpoints else None,
    )
    return _given(
        thresholds=_thresholds(spec.golden),
        sealed=spec.golden.sealed and _share(spec.golden.sealed),
        baselines=[each for each in spec.compared_types if each in ("BaseModel", "LastPublished")],
        anchor=spec.pinned_version and spec.pinned_version.uri.rstrip("/").rpartition("/")[2],
        served=spec.endpoint and spec.endpoint.model,
        safety=safety,
        calibration=spec.error_rate and _calibration(spec.error_rate.to_wire()),
        approval="Required" if spec.approval in ("WhenPassed", "Always") else "NotRequired",
        override="Allowed" if spec.approval in ("WhenFailed", "Always") else "NotAllowed",
        dryRun=spec.dry_run,
    )


def _thresholds(golden: GateSet) -> dict[str, Any]:
    """Return the limits of a golden set in the form that records have."""
    overall, some = golden.overall, golden.about_some
    return _given(
        minPassRate=overall.min_pass_rate and _share(overall.min_pass_rate),
        policy="NonInferior" if overall.test == "NonInferior" else "Points",
        maxDropPoints=overall.fail_at_drop[:-1],
        maxRelativeDrop=overall.max_relative_drop and _share(overall.max_relative_drop),
        maxNewFailures=_text(overall.max_new_failures),
        maxDropBetweenCheckpoints=(golden.checkpoints.fail_at_drop or "5%")[:-1],
        onRegression=golden.checkpoints.on_regression or "Confirm",
        mustPass=[case for rule in some if rule.min_pass_rate == "100%" for case in rule.cases],
        advisory=[*golden.advisory],
        requiredTags=[case for rule in some if not rule.limits for case in rule.cases],
    )


def _calibration(wire: dict[str, Any]) -> dict[str, Any]:
    return wire | ({"minDetection": _share(wire["minDetection"])} if "minDetection" in wire else {})


def _share(percent: str) -> str:
    return f"{(Decimal(percent[:-1]) / 100).normalize():f}"


def job(
    request: Request,
    results: Results,
    evaluation: Evaluation | None = None,
    accepted: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return the record of a job. If ``evaluation`` is given, it is judged instead of one with the same
    key."""
    spec, labels = request.spec, Labels()
    is_calibrated = any(gate.spec.error_rate for gate in request.gates)
    evaluations = [*results.evaluations]
    if evaluation is not None and evaluation not in evaluations:
        evaluations = [each for each in evaluations if each.key != evaluation.key] + [evaluation]
    read = results.last_published
    record = _given(
        kind="Job",
        gates={each.name: gate(each, labels) for each in request.gates},
        stages=[[stage.name, stage.gates and [each.name for each in stage.gates]] for stage in spec.stages],
        finalGates=[each.name for each in spec.gates],
        leftOut=request.left_out or None,
        taskMetrics=[_metric(metric.to_wire()) for metric in spec.task_metrics],
        sets={name: case_set(each) for name, each in results.sets.items()},
        evaluations=[_evaluation(each, labels if is_calibrated else None) for each in evaluations],
        calibrations=results.error_rates
        and {
            each.name: calibration(results.error_rates[each.name], each.spec.scoring, labels)
            for each in request.gates
            if each.name in results.error_rates
        },
        lastPublished=read and {name: published(each) for name, each in read.versions.items()},
    )
    return record | ({"accepted": dict(accepted)} if accepted else {})


def _metric(wire: dict[str, Any]) -> dict[str, Any]:
    found = {field: wire[field] for field in ("name", "type", "average", "min") if field in wire}
    found["min"] = _share(found["min"])
    if "checkpoints" in wire:
        found["maxDropBetweenCheckpoints"] = wire["checkpoints"]["failAtDrop"].removesuffix("%")
        found["onRegression"] = wire["checkpoints"].get("onRegression", "Confirm")
    return found


def _evaluation(found: Evaluation, labels: Labels | None) -> dict[str, Any]:
    return _given(
        subject=RECORDED.get(found.subject, str(found.subject)),
        stage=found.stage,
        step=found.step,
        digest=labels.of(found.digest) if labels and found.digest else None,
        outcomes=found.outcomes,
        counts=found.counts,
        problems=found.problems,
    )
