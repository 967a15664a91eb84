"""Decide the status of an EvalGate: whether its golden set and its safety set are valid, and which models
the gate judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from tunegate_api.cases.agreement import faulty_probes
from tunegate_api.cases.case_lines import CaseSetError, CaseT, parse_cases
from tunegate_api.cases.golden import (
    GoldenCase,
    case_set,
    counting,
    unreachable,
    without_server,
)
from tunegate_api.cases.safety_cases import SafetyCase, too_few
from tunegate_api.contract.bar import bar_of_safety_set, checkpoint_bar, final_bar
from tunegate_api.contract.digests import sha256_text
from tunegate_api.judging.gate_error_rate import error_rate_text, low_detection, of_settings
from tunegate_api.meta import (
    ConditionStatus,
    ObjectMeta,
    Sha256,
    find_condition,
    next_condition,
)
from tunegate_api.v1alpha2 import EvalGateStatus
from tunegate_api.v1alpha2.case_source import SetName
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.evalgate_status import GateReason, JudgedModel
from tunegate_api.validation.problems import Problem
from tunegate_api.verdict.power import power_text
from tunegate_api.verdict.tiers import counted_cases
from tunegate_operator.engine.controller import Action, Put
from tunegate_operator.engine.memo import Memo
from tunegate_operator.engine.parsed import PARSED_BYTES, ParseCache
from tunegate_operator.evalgate.effect import UNKNOWN, why_no_rule_can_fail
from tunegate_operator.evalgate.looks import with_message
from tunegate_operator.evalgate.observe import Missing, ObservedGate, Pinned
from tunegate_operator.evalgate.records import in_full, in_status, records_config_map, with_records
from tunegate_operator.names import records_name

_READING_RECORDS = "reading which models of ended jobs this gate judged"
_SAFETY_PINNED = "pods read the safety set, and check its digest, its cases and the limits"
Decided = tuple[EvalGateStatus, tuple[Action, ...]]
"""The next status of a gate, and the actions that record judged models."""


def decide(observed: ObservedGate, now: datetime) -> Decided:
    """Return the next status of a gate, and the actions that record judged models before status is written.
    The same input gives the same result."""
    gate = observed.gate
    status, actions = _with_records(gate.metadata, gate.status, observed.records, observed.recorded)
    # Looks are counted together with the records, to save a write of the status.
    known = {
        "baselines": list(observed.baselines),
        "error_rates": list(observed.error_rates),
        "looks": status.looks if actions else with_message(observed.looks, status.records),
    }
    status = status.model_copy(update=known)
    golden = _judge_golden_set(observed, status.records)
    sets = golden if golden.digest is None else _judge_safety_set(observed, golden)
    text, low = _judge_error_rate(observed, status, sets)
    readiness = low or _with_effect(observed.gate.spec, sets, status.records)
    if (actions or observed.is_more) and _turns_ready(observed, readiness):
        # A job that started now would compare its model with an old published version, or with none.
        readiness = _Readiness("Unknown", GateReason.READING_RECORDS, _READING_RECORDS)
    refusal = observed.refusal
    if actions and refusal and refusal.cause != "Unavailable":
        message = f"{refusal.message}; delete this object, or change what refuses the record of judged models"
        readiness = _Readiness("False", GateReason.RECORDS_REFUSED, message)
    status = status.model_copy(update={"error_rate": text})
    return _shown(status, sets, readiness, generation=gate.metadata.generation, now=now), actions


@dataclass(frozen=True)
class _Readiness:
    """What the Ready condition of a gate shows."""

    value: ConditionStatus
    reason: GateReason
    message: str
    is_stalled: bool = False
    """Whether only a person can fix the gate."""


@dataclass(frozen=True)
class _Sets:
    """What is known about the sets of a gate. All fields but ``readiness`` are None if a set cannot be
    used."""

    readiness: _Readiness
    """Whether the gate can use its sets."""
    digest: Sha256 | None = None
    cases: int | None = None
    """How many cases the golden set has; None if the gate is ready, but only pods read the set."""
    safety_digest: Sha256 | None = None
    safety_cases: int | None = None


def _unusable(reason: GateReason, message: str, *, is_stalled: bool = True) -> _Sets:
    return _Sets(_Readiness("False", reason, message, is_stalled))


def _changed(name: SetName, digest: Sha256, pinned: Sha256 | None) -> _Sets | None:
    """Return that a set cannot be used because it does not have the pinned digest, or None if it can."""
    if pinned is None or digest == pinned:
        return None
    message = f"the {name} set was changed: it has sha256 {digest}, but {name}.sha256 pins {pinned}"
    return _unusable(GateReason.DIGEST_MISMATCH, message)


def _turns_ready(observed: ObservedGate, readiness: _Readiness) -> bool:
    """Whether the gate is ready now, and was not ready with its current spec before."""
    before = find_condition(observed.gate.status.conditions, "Ready")
    generation = observed.gate.metadata.generation
    was_ready = before and before.status == "True" and before.observed_generation == generation
    return readiness.value == "True" and not was_ready


def _judge_error_rate(
    observed: ObservedGate, status: EvalGateStatus, sets: _Sets
) -> tuple[str | None, _Readiness | None]:
    """Return the newest error rate of a gate in words, and why the gate is not ready if this error rate is
    below `minDetection`."""
    spec = observed.gate.spec
    measured = of_settings(status.error_rates, spec, sets.digest) if spec.error_rate else []
    if not measured:
        return None, None
    text = error_rate_text(measured[0], final_bar(spec.golden).drop.limit)
    low = low_detection(measured[0], spec, sets.cases)
    if not low:
        return text, None
    message = f"{text}, measured by FineTuneJob {measured[0].job}; {low}"
    return text, _Readiness("False", GateReason.LOW_DETECTION, message, is_stalled=True)


def _with_effect(spec: EvalGateSpec, sets: _Sets, records: Sequence[JudgedModel]) -> _Readiness:
    """Return the readiness of a gate whose sets are valid, and whether one of its rules can fail."""
    found = sets.readiness
    why = why_no_rule_can_fail(spec, sets.digest, records) if found.value == "True" else ""
    if why is None:
        return replace(found, message=f"{found.message}; {UNKNOWN}")
    return _Readiness("False", GateReason.NO_RULE_CAN_FAIL, why, is_stalled=True) if why else found


def _with_records(
    meta: ObjectMeta, status: EvalGateStatus, found: Sequence[JudgedModel], recorded: tuple[JudgedModel, ...]
) -> Decided:
    """Return the status with the judged models that the ConfigMap already contains, and the action that adds
    new models to the ConfigMap.

    A new model is added to status by the next decision, after that action.
    """
    full = in_full(with_records(status, found).records, (recorded, found))
    actions = () if tuple(full) == recorded else (Put(records_config_map(meta, full)),)
    if not recorded:
        return status, actions
    uids = {record.job_uid for record in recorded}
    status = with_records(status, [record for record in found if record.job_uid in uids])
    shown, name = in_status(status.records, recorded), records_name(meta.name, meta.uid)
    return status.model_copy(update={"records": shown, "records_config_map": name}), actions


def _judge_golden_set(observed: ObservedGate, records: Sequence[JudgedModel]) -> _Sets:
    """Return whether the golden set is valid and its rules can be met. ``records`` are the models
    that the gate judged. One of them may have the number of cases of a set that only pods read."""
    spec, golden = observed.gate.spec, observed.golden
    if problems := faulty_probes(spec):
        return _unusable(GateReason.INVALID_SPEC, "; ".join(map(str, problems)))
    if isinstance(golden, Missing):
        return _unusable(golden.reason, golden.message, is_stalled=False)
    if isinstance(golden, Pinned):
        known = next((r.total for r in records if r.golden_sha256 == golden.sha256), None)
        message = "pods read the golden set, and check its digest, its cases and its rules"
        return _Sets(_Readiness("True", GateReason.GOLDEN_PINNED, message), golden.sha256, known)
    digest = sha256_text(golden)
    if changed := _changed("golden", digest, spec.golden.sha256):
        return changed
    uid = observed.gate.metadata.uid
    found = _CHECKED.get(uid, (digest, spec), lambda: _check_golden(golden, digest, spec))
    if found.reason is not GateReason.GOLDEN_READ:
        return _unusable(found.reason, found.message)
    return _Sets(_Readiness("True", found.reason, found.message), digest, found.cases)


@dataclass(frozen=True)
class _Checked:
    """Whether a gate can use its golden set, as its Ready condition shows it."""

    reason: GateReason
    message: str
    cases: int | None = None


_CHECKED: Memo[_Checked] = Memo(4096)
_GOLDEN: ParseCache[list[GoldenCase] | CaseSetError] = ParseCache(PARSED_BYTES)
_SAFETY: ParseCache[list[SafetyCase] | CaseSetError] = ParseCache(PARSED_BYTES)
"""Parsing 500 cases takes 25 ms. A gate decides many times about the same set, and many gates may name it."""


def _parse(text: str, kind: type[CaseT]) -> list[CaseT] | CaseSetError:
    try:
        return parse_cases(text, kind)
    except CaseSetError as error:
        return error


def _check_golden(golden: str, digest: Sha256, spec: EvalGateSpec) -> _Checked:
    """Return whether the golden set is valid and its rules can be met."""
    cases = _GOLDEN.get(digest, len(golden), lambda: _parse(golden, GoldenCase))
    if isinstance(cases, CaseSetError):
        return _Checked(GateReason.BAD_GOLDEN, str(cases))
    if problems := without_server(spec.to_wire(), cases):
        return _Checked(GateReason.INVALID_SPEC, "; ".join(map(str, problems)))
    bar = checkpoint_bar(spec.golden)
    if problems := unreachable(spec, cases, digest):
        return _Checked(GateReason.UNREACHABLE_RULES, "; ".join(map(str, problems)))
    message = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
    counted = case_set(counting(bar, cases), digest)
    if len(counted.ids) < len(cases):
        message += f", {len(cases) - len(counted.ids)} of them advisory"
    if spec.golden.sealed:
        sealed = counted_cases(case_set(cases, digest), bar).sealed
        message += f", {len(sealed)} sealed until the final gate"
    if spec.compare_with:
        message += f"; {power_text(len(counted.ids), bar, counted.groups)}"
    return _Checked(GateReason.GOLDEN_READ, message, len(cases))


def _judge_safety_set(observed: ObservedGate, golden: _Sets) -> _Sets:
    """Return the sets of a gate with a valid golden set. If the safety set is not valid, the gate can use
    neither."""
    safety, spec = observed.safety, observed.gate.spec.safety
    if safety is None or spec is None:
        return golden
    if isinstance(safety, Missing):
        return _unusable(safety.reason, safety.message, is_stalled=False)
    if isinstance(safety, Pinned):
        message = f"{golden.readiness.message}; {_SAFETY_PINNED}"
        readiness = replace(golden.readiness, message=message)
        return replace(golden, readiness=readiness, safety_digest=safety.sha256)
    digest = sha256_text(safety)
    if changed := _changed("safety", digest, spec.sha256):
        return changed
    cases = _SAFETY.get(digest, len(safety), lambda: _parse(safety, SafetyCase))
    if isinstance(cases, CaseSetError):
        return _unusable(GateReason.BAD_SAFETY, f"safety set: {cases}")
    if few := too_few(cases, bar_of_safety_set(spec)):
        return _unusable(GateReason.BAD_SAFETY, f"safety set: {few}")
    return replace(golden, safety_digest=digest, safety_cases=len(cases))


def refuse(
    meta: ObjectMeta,
    status: EvalGateStatus,
    recorded: tuple[JudgedModel, ...],
    problems: list[Problem],
    now: datetime,
) -> Decided:
    """Return the status of a gate with an invalid spec."""
    status, actions = _with_records(meta, status, (), recorded)
    message = "; ".join(str(problem) for problem in problems)
    sets = _unusable(GateReason.INVALID_SPEC, message)
    return _shown(status, sets, sets.readiness, generation=meta.generation, now=now), actions


def _shown(
    status: EvalGateStatus, sets: _Sets, readiness: _Readiness, *, generation: int, now: datetime
) -> EvalGateStatus:
    """Return the status with these sets, and with the conditions Ready and Stalled. The times of transitions
    change only if the values of the conditions differ from those in ``status``."""
    condition = partial(
        next_condition,
        status.conditions,
        reason=readiness.reason,
        message=readiness.message,
        generation=generation,
        now=now,
    )
    conditions = [condition("Ready", readiness.value)]
    if readiness.is_stalled:
        conditions.append(condition("Stalled", "True"))
    return status.model_copy(
        update={
            "digest": sets.digest,
            "cases": sets.cases,
            "safety_digest": sets.safety_digest,
            "safety_cases": sets.safety_cases,
            "conditions": conditions,
            "observed_generation": generation,
        }
    )
