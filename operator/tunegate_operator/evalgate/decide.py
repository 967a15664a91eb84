"""Decide the status of an EvalGate: whether its golden set and its safety set are valid, and which models
the gate judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tunegate_api.cases.golden import (
    GoldenCase,
    GoldenError,
    case_set,
    counting,
    parse_golden,
    unreachable,
    without_server,
)
from tunegate_api.cases.safety_cases import SafetyCase, SafetyError, parse_safety, too_few
from tunegate_api.contract import sha256_text
from tunegate_api.judging.gate_calibration import error_rate_text, low_detection, of_settings
from tunegate_api.meta import (
    ConditionStatus,
    ObjectMeta,
    Sha256,
    find_condition,
    with_condition,
    without_condition,
)
from tunegate_api.v1alpha1 import EvalGateStatus
from tunegate_api.v1alpha1.evalgate import EvalGateSpec
from tunegate_api.v1alpha1.evalgate_status import GateReason, Record
from tunegate_api.validation.problems import Problem
from tunegate_api.verdict.power import power_text
from tunegate_api.verdict.tiers import counted_cases
from tunegate_operator.engine.controller import Action, Put
from tunegate_operator.engine.memo import Memo
from tunegate_operator.engine.parsed import PARSED_BYTES, ParseCache
from tunegate_operator.evalgate.looks import with_message
from tunegate_operator.evalgate.observe import Missing, ObservedGate, Pinned
from tunegate_operator.evalgate.records import in_full, in_status, records_config_map, with_records
from tunegate_operator.names import records_name

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
        "calibrations": list(observed.calibrations),
        "looks": status.looks if actions else with_message(observed.looks, status.records),
    }
    status = status.model_copy(update=known)
    judged = _judge_safety_set(observed, _judge_golden_set(observed, status, now), status, now)
    judged = _judge_error_rate(observed, judged, status, now)
    if (actions or observed.is_more) and _turns_ready(observed, judged):
        # A job that started now would compare its model with an old published version, or with none.
        message = "reading which models of ended jobs this gate judged"
        generation = gate.metadata.generation
        reason = GateReason.READING_RECORDS
        judged = _ready(judged, "Unknown", reason, message, generation=generation, now=now)
    return judged, actions


def _turns_ready(observed: ObservedGate, judged: EvalGateStatus) -> bool:
    """Whether the gate is ready now, and was not ready with its current spec before."""
    before, ready = (find_condition(s.conditions, "Ready") for s in (observed.gate.status, judged))
    generation = observed.gate.metadata.generation
    was_ready = before and before.status == "True" and before.observed_generation == generation
    return bool(ready and ready.status == "True" and not was_ready)


def _judge_error_rate(
    observed: ObservedGate, judged: EvalGateStatus, status: EvalGateStatus, now: datetime
) -> EvalGateStatus:
    """Return the status of a gate whose sets were judged, with its newest error rate in words. If this error
    rate is below `minDetection`, the gate is not ready. As for the safety set, conditions are those of
    ``status``, from before the sets were judged."""
    spec, generation = observed.gate.spec, observed.gate.metadata.generation
    measured = of_settings(judged.calibrations, spec, judged.digest) if spec.calibration else []
    if not measured:
        return judged.model_copy(update={"error_rate": None})
    text = error_rate_text(measured[0], spec.thresholds.bar().drop.limit)
    judged = judged.model_copy(update={"error_rate": text})
    low = low_detection(measured[0], spec, judged.cases)
    if not low:
        return judged
    message = f"{text}, measured by FineTuneJob {measured[0].job}; {low}"
    judged = judged.model_copy(update={"conditions": status.conditions})
    reason = GateReason.LOW_DETECTION
    return _ready(judged, "False", reason, message, generation=generation, now=now, stalled=True)


def _with_records(
    meta: ObjectMeta, status: EvalGateStatus, found: Sequence[Record], recorded: tuple[Record, ...]
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


def _judge_golden_set(observed: ObservedGate, status: EvalGateStatus, now: datetime) -> EvalGateStatus:
    """Return the status with a Ready condition that shows whether the golden set is valid and the thresholds
    can be reached."""
    gate = observed.gate
    generation, golden = gate.metadata.generation, observed.golden
    if isinstance(golden, Missing):
        return _not_ready(
            status, golden.reason, golden.message, generation=generation, now=now, stalled=False
        )
    if isinstance(golden, Pinned):
        known = next((r.total for r in status.records if r.golden_sha256 == golden.sha256), None)
        status = status.model_copy(update={"cases": known, "digest": golden.sha256})
        message = "pods read the golden set, and check its digest, its cases and the thresholds"
        return _ready(status, "True", GateReason.GOLDEN_PINNED, message, generation=generation, now=now)
    digest = sha256_text(golden)
    pinned = gate.spec.golden.sha256
    if pinned is not None and digest != pinned:
        message = f"the golden set was changed: it has sha256 {digest}, but golden.sha256 pins {pinned}"
        return _not_ready(status, GateReason.DIGEST_MISMATCH, message, generation=generation, now=now)
    spec = gate.spec
    found = _CHECKED.get(gate.metadata.uid, (digest, spec), lambda: _check_golden(golden, digest, spec))
    if found.reason is not GateReason.GOLDEN_READ:
        return _not_ready(status, found.reason, found.message, generation=generation, now=now)
    status = status.model_copy(update={"cases": found.cases, "digest": digest})
    return _ready(status, "True", found.reason, found.message, generation=generation, now=now)


@dataclass(frozen=True)
class _Checked:
    """Whether a gate can use its golden set, as its Ready condition shows it."""

    reason: GateReason
    message: str
    cases: int | None = None


_CHECKED: Memo[_Checked] = Memo(4096)
_GOLDEN: ParseCache[list[GoldenCase] | GoldenError] = ParseCache(PARSED_BYTES)
_SAFETY: ParseCache[list[SafetyCase] | SafetyError] = ParseCache(PARSED_BYTES)
"""Parsing 500 cases takes 25 ms. A gate decides many times about the same set, and many gates may name it."""


def _parse_golden(text: str) -> list[GoldenCase] | GoldenError:
    try:
        return parse_golden(text)
    except GoldenError as error:
        return error


def _parse_safety(text: str) -> list[SafetyCase] | SafetyError:
    try:
        return parse_safety(text)
    except SafetyError as error:
        return error


def _check_golden(golden: str, digest: Sha256, spec: EvalGateSpec) -> _Checked:
    """Return whether the golden set is valid and the thresholds can be reached."""
    cases = _GOLDEN.get(digest, len(golden), lambda: _parse_golden(golden))
    if isinstance(cases, GoldenError):
        return _Checked(GateReason.BAD_GOLDEN, str(cases))
    if problems := without_server(spec.to_wire(), cases):
        return _Checked(GateReason.INVALID_SPEC, "; ".join(map(str, problems)))
    problems = unreachable(
        spec.thresholds, cases, spec.compared_with, sealed=spec.golden.sealed, sha256=digest
    )
    if problems:
        return _Checked(GateReason.UNREACHABLE_THRESHOLDS, "; ".join(map(str, problems)))
    message = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
    counted = case_set(counting(spec.thresholds, cases), digest)
    if len(counted.ids) < len(cases):
        message += f", {len(cases) - len(counted.ids)} of them advisory"
    if spec.golden.sealed:
        sealed = counted_cases(case_set(cases, digest), spec.checkpoint_bar).sealed
        message += f", {len(sealed)} sealed until the final gate"
    if spec.compared_with:
        message += f"; {power_text(len(counted.ids), spec.thresholds.bar(), counted.groups)}"
    return _Checked(GateReason.GOLDEN_READ, message, len(cases))


def _judge_safety_set(
    observed: ObservedGate, judged: EvalGateStatus, status: EvalGateStatus, now: datetime
) -> EvalGateStatus:
    """Return the status of a gate whose golden set was judged, with the safety set that was read or pinned.
    If this set is not valid, return ``status``, from before both sets were judged, with a Ready condition
    that shows why. So transition times change only if the result of both sets changes."""
    safety, gate, generation = observed.safety, observed.gate, observed.gate.metadata.generation
    if safety is None or gate.spec.safety is None:
        return judged.model_copy(update={"safety_digest": None, "safety_cases": None})
    if judged.digest is None:  # not ready because of the golden set
        return judged
    if isinstance(safety, Missing):
        return _not_ready(
            status, safety.reason, safety.message, generation=generation, now=now, stalled=False
        )
    if isinstance(safety, Pinned):
        judged = judged.model_copy(update={"safety_digest": safety.sha256, "safety_cases": None})
        return _with_ready_note(judged, _SAFETY_PINNED, generation=generation, now=now)
    digest, pinned = sha256_text(safety), gate.spec.safety.sha256
    if pinned is not None and digest != pinned:
        message = f"the safety set was changed: it has sha256 {digest}, but safety.sha256 pins {pinned}"
        return _not_ready(status, GateReason.DIGEST_MISMATCH, message, generation=generation, now=now)
    cases = _SAFETY.get(digest, len(safety), lambda: _parse_safety(safety))
    if isinstance(cases, SafetyError):
        return _not_ready(
            status, GateReason.BAD_SAFETY, f"safety set: {cases}", generation=generation, now=now
        )
    if few := too_few(cases, gate.spec.safety.bar()):
        return _not_ready(status, GateReason.BAD_SAFETY, f"safety set: {few}", generation=generation, now=now)
    return judged.model_copy(update={"safety_digest": digest, "safety_cases": len(cases)})


def refuse(
    meta: ObjectMeta,
    status: EvalGateStatus,
    recorded: tuple[Record, ...],
    problems: list[Problem],
    now: datetime,
) -> Decided:
    """Return the status of a gate with an invalid spec."""
    status, actions = _with_records(meta, status, (), recorded)
    message = "; ".join(str(problem) for problem in problems)
    reason = GateReason.INVALID_SPEC
    return _not_ready(status, reason, message, generation=meta.generation, now=now), actions


def _with_ready_note(status: EvalGateStatus, note: str, *, generation: int, now: datetime) -> EvalGateStatus:
    """Return the status of a gate that is ready, with ``note`` added to the message of its Ready
    condition."""
    ready = find_condition(status.conditions, "Ready")
    if ready is None:
        return status
    message = f"{ready.message}; {note}"
    return _ready(status, "True", GateReason(ready.reason), message, generation=generation, now=now)


def _not_ready(
    status: EvalGateStatus,
    reason: GateReason,
    message: str,
    *,
    generation: int,
    now: datetime,
    stalled: bool = True,
) -> EvalGateStatus:
    """Return the status of a gate that is not ready, with the condition Stalled if only a person can fix
    it."""
    nothing = dict.fromkeys(("digest", "cases", "safety_digest", "safety_cases"))
    status = status.model_copy(update=nothing)
    return _ready(status, "False", reason, message, generation=generation, now=now, stalled=stalled)


def _ready(
    status: EvalGateStatus,
    value: ConditionStatus,
    reason: GateReason,
    message: str,
    *,
    generation: int,
    now: datetime,
    stalled: bool = False,
) -> EvalGateStatus:
    conditions = with_condition(
        status.conditions, "Ready", value, reason, message, generation=generation, now=now
    )
    if stalled:
        conditions = with_condition(
            conditions, "Stalled", "True", reason, message, generation=generation, now=now
        )
    else:
        conditions = without_condition(conditions, "Stalled")
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})
