"""Read an EvalGate from the cache: the texts of its golden set and its safety set, and the final models that
the gate judged."""

from dataclasses import dataclass

from pydantic import ValidationError

from tunegate_api import GROUP
from tunegate_api.cases.case_lines import written_text
from tunegate_api.config_map import visible_keys
from tunegate_api.contract.bar import final_bar
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results, Subject, golden_set
from tunegate_api.v1alpha2 import EvalGate, FineTuneJob
from tunegate_api.v1alpha2.error_rate_status import RecordedErrorRate
from tunegate_api.v1alpha2.evalgate_status import (
    MAX_RECORDS,
    GateReason,
    JudgedModel,
    Looks,
    RecordedBaseline,
)
from tunegate_api.v1alpha2.evaluation_status import GateResult
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_api.verdict.groups import independent_among
from tunegate_api.verdict.outcomes import VerdictState, passed_count
from tunegate_api.verdict.tiers import counted_cases
from tunegate_operator.children.records import UnreadableRecordError, owned_config_map
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Refusal, View
from tunegate_operator.engine.objects import moment
from tunegate_operator.engine.owners import Owner
from tunegate_operator.evalgate.baselines import with_baselines
from tunegate_operator.evalgate.error_rates import with_error_rates
from tunegate_operator.evalgate.jobs import read_new_jobs
from tunegate_operator.evalgate.looks import counted_until, with_looks
from tunegate_operator.evalgate.records import baseline_jobs, read_records
from tunegate_operator.names import (
    REQUEST_KEY,
    RESULTS_KEY,
    judged_names,
    request_name,
    results_name,
)


@dataclass(frozen=True)
class Missing:
    """Why a set cannot be read."""

    reason: GateReason
    message: str


@dataclass(frozen=True)
class Pinned:
    """A golden set or safety set at an address, which only pods read. They check that it has this digest."""

    sha256: str


SetText = str | Pinned | Missing
"""The text of a set, its digest if only pods read it, or why it cannot be read."""


@dataclass(frozen=True)
class Unreadable:
    """A job whose results cannot be read, because they were edited or written by another version of the
    operator."""

    job: str
    config_map: str


@dataclass(frozen=True)
class ObservedGate:
    gate: EvalGate
    golden: SetText
    """The golden set."""
    safety: SetText | None
    """The safety set. None if the gate has none."""
    records: tuple[JudgedModel, ...]
    """New records, which the gate's status does not list yet: one for each ended job whose final model this
    gate judged."""
    recorded: tuple[JudgedModel, ...]
    """The records in the gate's ConfigMap."""
    unreadable: tuple[Unreadable, ...]
    """Jobs whose results cannot be read. Their models are not recorded."""
    baselines: tuple[RecordedBaseline, ...] = ()
    """Cached baselines that jobs with this gate measured or used, including deleted jobs."""
    looks: Looks | None = None
    """How often jobs evaluated models on the golden set, including deleted jobs."""
    error_rates: tuple[RecordedErrorRate, ...] = ()
    """Error rates of this gate that jobs measured, including deleted jobs."""
    is_more: bool = False
    """Whether further ended jobs are left for the next decision."""
    refusal: Refusal | None = None
    """Why the cluster refused the ConfigMap with the records; None if it accepted it."""


def observe(gate: EvalGate, view: View) -> ObservedGate:
    texts = {name: _text(gate, view, part) for name, part in gate.spec.case_sets.items()}
    golden, safety, recorded = texts["golden"], texts.get("safety"), read_records(gate.metadata, view)
    refusal = view.refusal(gate.metadata.uid)
    if isinstance(golden, Missing):
        status = gate.status
        known = tuple(status.baselines), status.looks, tuple(status.error_rates)
        return ObservedGate(gate, golden, safety, (), recorded, (), *known, refusal=refusal)
    read = golden.sha256 if isinstance(golden, Pinned) else sha256_text(golden)
    digest = gate.spec.golden.sha256 or read  # a changed set that is not the pinned one starts no new count
    new_jobs, is_more = read_new_jobs(gate, counted_until(gate.status.looks, digest), view)
    jobs, found = list[Object](), list[JudgedModel | Unreadable | None]()
    for job in new_jobs:
        found += [_record(gate, job, digest, view)] if may_be_new(gate, job) else []
        jobs.append({field: value for field, value in job.items() if field != "spec"})  # may have megabytes
    return ObservedGate(
        gate,
        golden,
        safety,
        tuple(record for record in found if isinstance(record, JudgedModel)),
        recorded,
        tuple(record for record in found if isinstance(record, Unreadable)),
        tuple(with_baselines(gate.status.baselines, jobs)),
        with_looks(gate.status.looks, gate.metadata.name, digest, jobs, view),
        tuple(with_error_rates(gate.status.error_rates, gate.metadata.name, jobs)),
        is_more,
        refusal,
    )


def may_be_new(gate: EvalGate, job: Object) -> bool:
    """Whether a job may have a new record for this gate. The job is not validated."""
    status = job.get("status") or {}
    records = gate.status.records
    if gate.metadata.name not in judged_names(job) or not status.get("completionTime"):
        return False
    if job["metadata"]["uid"] in {record.job_uid for record in records}:
        return False
    # A full list has dropped all older records. Only baselines are kept although they may be older.
    baselines = baseline_jobs(records)
    kept = [r.time for r in records if r.job_uid not in baselines]
    return len(records) < MAX_RECORDS or not kept or moment(status["completionTime"]) > min(kept)


def _text(gate: EvalGate, view: View, part: GateSet) -> SetText:
    source = part.source
    if source.uri is not None:
        return Pinned(part.sha256 or "")
    text = written_text(source)
    if text is not None:
        return text
    return _file(gate, view, f"sets[{part.name}].source", source.config_map or "", source.key)


def _file(gate: EvalGate, view: View, field: str, name: str, key: str | None) -> str | Missing:
    """Return the text of a key of the ConfigMap ``name``, by default of its only key. ``field`` is the path
    of the source in the spec."""
    config_map = view.get(Key("ConfigMap", gate.metadata.namespace, name))
    if config_map is None:
        return Missing(GateReason.CONFIG_MAP_NOT_FOUND, f"ConfigMap {name} does not exist in this namespace")
    data: dict[str, str] = config_map.get("data") or {}
    keys = visible_keys(data)
    if key is None and len(keys) != 1:
        return Missing(
            GateReason.CONFIG_MAP_NOT_FOUND,
            f"ConfigMap {name} has {len(keys)} keys: set {field}.key to one of them"
            if keys
            else f"ConfigMap {name} has no keys, or only keys that begin with a dot: set {field}.key",
        )
    key = key or keys[0]
    if key not in data:
        there = ", ".join(sorted(data)) or "none"
        return Missing(GateReason.CONFIG_MAP_NOT_FOUND, f"ConfigMap {name} has no key {key}; it has: {there}")
    return data[key]


def _record(gate: EvalGate, obj: Object, digest: str, view: View) -> JudgedModel | Unreadable | None:
    """Return the record of a job's final model, or Unreadable if the job's results cannot be read.

    Returns None if there are no results, the job is invalid, or this gate did not judge the model with the
    golden set that has this ``digest``. Results for another digest are from an earlier gate with the same
    name.
    """
    meta = obj["metadata"]
    config_map_name = results_name(meta["name"], meta["uid"])
    try:
        config_map = owned_config_map(view, Owner.of(obj), config_map_name)
    except UnreadableRecordError:
        return Unreadable(meta["name"], config_map_name)
    if config_map is None:
        return None
    text: str | None = (config_map.get("data") or {}).get(RESULTS_KEY)
    if text is None:
        return Unreadable(meta["name"], config_map_name)
    if digest not in text:  # checked before parsing, which takes longer
        return None
    try:
        job = FineTuneJob.model_validate(obj)
    except ValidationError:
        return None
    final, status = job.status.final, job.status
    if final is None or status.completion_time is None:
        return None
    result = next((g for g in final.gates if g.name == gate.metadata.name), None)
    if result is None or result.golden is None:
        return None
    try:
        results, name = Results.model_validate_json(text), golden_set(gate.metadata.name)
    except ValidationError:
        return Unreadable(meta["name"], config_map_name)
    measured, cases = results.find(Subject.FINAL), results.sets.get(name)
    if not measured or cases is None or cases.sha256 != digest:
        return None
    published = {version.uri.rpartition("/")[0] for version in status.published}
    base = next((e.outcomes[name] for e in results.find(Subject.BASE) if name in e.outcomes), None)
    counted, total = counted_cases(cases, final_bar(gate.spec.golden)), result.golden.total
    groups = counted.counted.groups
    # The advisory cases of the gate may have changed since the job read it.
    is_other = len(counted.positions) != total
    return JudgedModel(
        job=job.metadata.name,
        job_uid=job.metadata.uid,
        step=measured[0].step,
        model_digest=final.model_digest,
        golden_sha256=cases.sha256,
        scoring=_scoring(gate.metadata.name, job, view),
        passed=result.golden.passed,
        total=total,
        independent=independent_among(total, len(counted.positions), groups) if groups else None,
        base_passed=None if base is None or is_other else passed_count(counted.of(base)),
        outcomes=measured[0].outcomes.get(name, ""),
        verdict=result.verdict,
        overridden=_is_overridden(job, result) or None,
        dry_run=result.dry_run,
        published_uris=[target.uri for target in job.spec.publish if target.uri.rstrip("/") in published],
        time=status.completion_time,
    )


def _scoring(gate: str, job: FineTuneJob, view: View) -> str | None:
    """Return the short digest of the gate's settings when the job started; None if its request cannot be
    read."""
    meta = job.metadata
    owner = Owner(Key("FineTuneJob", meta.namespace, meta.name), meta.uid, GROUP)
    try:
        found = owned_config_map(view, owner, request_name(meta.name, meta.uid)) or {}
        request = Request.model_validate_json((found.get("data") or {}).get(REQUEST_KEY, ""))
    except (UnreadableRecordError, ValidationError):
        return None
    return next((each.spec.scoring for each in request.gates if each.name == gate), None)


def _is_overridden(job: FineTuneJob, result: GateResult) -> bool:
    """Whether a person overrode this verdict of the gate. A verdict of a dry run needs no override."""
    decision = job.status.verdict_decision
    is_override = decision is not None and decision.action == "override"
    return is_override and result.verdict is not VerdictState.PASSED and not result.dry_run
