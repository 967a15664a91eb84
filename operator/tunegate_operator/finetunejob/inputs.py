"""Make a job's request once its inputs exist: ready gates, the ConfigMaps that pods read, and the job in
``model.startFrom``."""

from collections.abc import Collection, Mapping
from datetime import timedelta

from tunegate_api.contract.digests import canonical_json, sha256_text
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest, Request, StartRequest
from tunegate_api.judging.gate_error_rate import measured_bases
from tunegate_api.meta import Sha256, find_condition
from tunegate_api.v1alpha2 import EvalGate, FineTuneJobSpec
from tunegate_api.v1alpha2.compared import VERSION_FIELD
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_api.verdict.outcomes import counted_outcomes
from tunegate_operator.engine.controller import Create
from tunegate_operator.finetunejob.build import request_config_map
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.finetunejob.observe import EarlierJob, ObservedJob, is_ready
from tunegate_operator.finetunejob.seals import check_seals
from tunegate_operator.finetunejob.volumes import gate_config_maps, input_config_maps
from tunegate_operator.names import plan_name, request_name

LOOK_AGAIN_SECONDS = 60
"""Interval in seconds at which a job looks again at what it waits for, if no event reports a change: the
namespace's required gates, or the phase of the job in ``model.startFrom``, which the message shows."""
DRY_RUN_WAIT = timedelta(minutes=5)
"""How long after its creation a job waits for a gate in a dry run. Manifests that are applied together may
arrive in any order."""


def ensure_request(run: Run) -> bool:
    """Read the job's recorded request, or make the request once all inputs exist. Return whether the job has
    a request. If an input cannot be used, fail the job; if one is missing, show what the job waits for.

    A new request records the trainer image in the operator's settings, so later settings do not affect the
    job.
    """
    observed, draft = run.observed, run.draft
    if observed.request is not None:
        _use_request(run, observed.request, observed.request_sha256)
        return True
    failure = _failed_start_from(observed) or (None if run.pods.on_one_machine else _local_files(observed))
    if failure is not None:
        draft.fail(failure)
        return False
    left_out = _left_out(run)
    missing = _missing(observed, left_out) or _missing_start_from(observed)
    if missing is not None:
        reason, message = missing
        draft.wait(Phase.PENDING, reason, message, observed.job.spec.start_timeout_seconds)
        if reason is Reason.START_FROM_NOT_READY:
            draft.agenda.look_again_at(draft.now + timedelta(seconds=LOOK_AGAIN_SECONDS))
        return False
    if not _has_required_gates(run):
        return False
    ready = {name: gate for name, gate in observed.gates.items() if gate and name not in left_out}
    unsealing, failure = check_seals(observed.job.spec, ready)
    failure = failure or _missing_grader(observed.job.spec, ready)
    if failure is not None:
        draft.fail(failure)
        return False
    request = _make_request(observed, run.pods.image, left_out | unsealing)
    draft.agenda.actions.append(Create(request_config_map(observed.job, request)))
    if observed.refusal is None:
        _use_request(run, request, sha256_text(canonical_json(request)))
    else:  # status names the request once the cluster accepted it
        run.made_request = request
    return True


def _missing_grader(spec: FineTuneJobSpec, ready: Mapping[str, EvalGate]) -> Failure | None:
    """Return a failure if the job names a grader for its data that its gate does not have."""
    named = spec.data.quality.grader if spec.data.quality else None
    gate = ready.get(named.gate) if named else None
    if named is None or gate is None or (gate.spec.judge and gate.spec.judge.name == named.name):
        return None
    return Failure(
        reason=Reason.INVALID_SPEC,
        message=f"spec.data.quality.grader: EvalGate {named.gate} has no grader {named.name} with "
        "type: Model and agreement",
        hint="Correct the name of the grader, or add it to the gate, and create the job again.",
    )


def _has_required_gates(run: Run) -> bool:
    """Return whether the job names all gates that are required of it. If not, fail the job; if they are
    unknown, show that the job waits for them."""
    observed, draft = run.observed, run.draft
    required = observed.required_gates
    if required.problem:
        timeout = observed.job.spec.start_timeout_seconds
        draft.wait(Phase.PENDING, Reason.REQUIRED_GATES_UNKNOWN, required.problem, timeout)
        draft.agenda.look_again_at(draft.now + timedelta(seconds=LOOK_AGAIN_SECONDS))
        return False
    failure = required.failure(observed.job.spec)
    if failure is not None:
        draft.fail(failure)
    return failure is None


def _use_request(run: Run, request: Request, sha256: Sha256 | None) -> None:
    """Use this request. If it is new, record its name and digest in status, and end the wait for inputs, so
    that the next wait has the full start timeout."""
    meta = run.observed.job.metadata
    run.made_request = request
    if run.draft.status.request is None:
        name = request_name(meta.name, meta.uid)
        run.draft.set(request=name, request_sha256=sha256, waiting_since=None)


def _left_out(run: Run) -> dict[str, str]:
    """Return the gates in a dry run that a new job does not wait for, by name, with the reason. A gate that
    only a person can correct is left out at once, and one that lacks a ConfigMap after a few minutes, also if
    only the rows are missing with which its judge is calibrated."""
    now, found = run.draft.now, dict[str, str]()
    waits_until = (run.observed.job.metadata.creation_timestamp or now) + DRY_RUN_WAIT
    for name, gate in run.observed.gates.items():
        ready = find_condition(gate.status.conditions, "Ready") if gate else None
        if gate is None or ready is None or not gate.spec.dry_run:
            continue
        if ready.observed_generation != gate.metadata.generation:
            continue
        missing = set(gate_config_maps(gate.spec)) & set(run.observed.missing_config_maps)
        if is_ready(gate) and not missing:
            continue
        if now >= waits_until or find_condition(gate.status.conditions, "Stalled"):
            why = _no_config_maps(missing) if is_ready(gate) else ready.message
            found[name] = f"EvalGate {name} is in a dry run and was not ready: {why}"
        else:
            run.draft.agenda.look_again_at(waits_until)
    return found


def _missing(observed: ObservedJob, left_out: Collection[str]) -> tuple[Reason, str] | None:
    used = {name: gate for name, gate in observed.gates.items() if name not in left_out}
    for name, gate in used.items():
        if gate is None:
            return Reason.GATE_NOT_FOUND, f"EvalGate {name} does not exist in this namespace"
        if not is_ready(gate):
            ready = find_condition(gate.status.conditions, "Ready")
            why = f": {ready.message}" if ready else ""
            return Reason.GATE_NOT_READY, f"EvalGate {name} is not ready{why}"
    needed = input_config_maps(observed.job.spec, [gate.spec for gate in used.values() if gate])
    missing = [name for name in observed.missing_config_maps if name in needed]
    return (Reason.CONFIG_MAP_NOT_FOUND, _no_config_maps(missing)) if missing else None


def _no_config_maps(missing: Collection[str]) -> str:
    return f"ConfigMap {', '.join(sorted(missing))} does not exist in this namespace"


def _local_files(observed: ObservedJob) -> Failure | None:
    """Return a failure if the job or one of its enforced gates has ``file://`` URIs, which pods on a cluster
    cannot read."""
    spec = observed.job.spec
    addresses = {"spec.model.uri": spec.model.uri}
    addresses |= {f"spec.{source.field}.uri": source.uri for source in spec.data.sources}
    addresses |= {f"spec.publish[{i}].uri": target.uri for i, target in enumerate(spec.publish)}
    gates = {name: gate for name, gate in observed.gates.items() if gate and not gate.spec.dry_run}
    addresses |= {
        f"EvalGate {name}: spec.sets[{part.name}].source.uri": part.source.uri
        for name, gate in gates.items()
        for part in gate.spec.sets
    }
    pinned = {name: gate.spec.pinned_version for name, gate in gates.items()}
    addresses |= {f"EvalGate {name}: {VERSION_FIELD}.uri": one.uri for name, one in pinned.items() if one}
    local = [field for field, uri in addresses.items() if uri and uri.startswith("file://")]
    if not local:
        return None
    return Failure(
        reason=Reason.INVALID_SPEC,
        message=f"{', '.join(local)}: pods on a cluster cannot read file:// addresses, which are on the "
        "machine that runs `tunegate run`",
        hint="Put the file on a volume, and set the address to pvc://CLAIM/PATH.",
    )


def _failed_start_from(observed: ObservedJob) -> Failure | None:
    """Return a failure if the job in ``model.startFrom`` has failed; otherwise None."""
    earlier = observed.start_from
    if earlier is None or earlier.job.status.phase is not Phase.FAILED:
        return None
    name, failure = earlier.job.metadata.name, earlier.job.status.failure
    why = f": {failure.reason}: {failure.message}" if failure else ""
    return Failure(
        reason=Reason.START_FROM_FAILED,
        message=f"FineTuneJob {name}, which model.startFrom names, failed{why}",
        hint="Set model.startFrom to a job that succeeded, and create the job again.",
    )


def _missing_start_from(observed: ObservedJob) -> tuple[Reason, str] | None:
    name, earlier = observed.job.spec.model.start_from, observed.start_from
    if name is None:
        return None
    if earlier is None:
        return Reason.START_FROM_NOT_FOUND, f"FineTuneJob {name} does not exist in this namespace"
    if earlier.job.status.phase is not Phase.SUCCEEDED or earlier.job.status.final is None:
        where = earlier.job.status.phase or Phase.PENDING
        return Reason.START_FROM_NOT_READY, f"FineTuneJob {name} has not succeeded yet: it is {where}"
    if earlier.plan is None:
        plan = plan_name(name, earlier.job.metadata.uid)
        return (
            Reason.START_FROM_NOT_READY,
            earlier.problem or f"ConfigMap {plan}, the plan of FineTuneJob {name}, does not exist",
        )
    return None


def _start_request(earlier: EarlierJob | None) -> StartRequest | None:
    """Return the claim, the digests and the training parameters of the artifact of the job in
    ``model.startFrom``; None if there is no such job or it has not succeeded."""
    if earlier is None or earlier.plan is None or earlier.job.status.final is None:
        return None
    return StartRequest(
        job=earlier.job.metadata.name,
        uid=earlier.job.metadata.uid,
        claim=earlier.job.spec.storage.persistent_volume_claim,
        digest=earlier.job.status.final.model_digest,
        base_digest=earlier.plan.model.digest,
        trained=earlier.plan.stages[-1].parameters,
    )


def _make_request(observed: ObservedJob, trainer_image: str, left_out: dict[str, str]) -> Request:
    job = observed.job
    uris = {target.uri for target in job.spec.publish}
    return Request(
        name=job.metadata.name,
        namespace=job.metadata.namespace,
        uid=job.metadata.uid,
        spec=job.spec,
        trainer_image=trainer_image,
        start_from=_start_request(observed.start_from),
        gates=[
            GateRequest(
                name=name,
                spec=gate.spec,
                golden_sha256=gate.status.digest or "",
                required=observed.required_gates.includes(name),
                safety_sha256=gate.status.safety_digest if gate.spec.safety else None,
                measured_bases=measured_bases(gate),
                last_published=_last_published(gate, uris),
            )
            for name, gate in observed.gates.items()
            if gate is not None and name not in left_out
        ],
        left_out=left_out,
    )


def _last_published(gate: EvalGate, uris: set[str]) -> PublishedVersion | None:
    """Return the newest version that passed this gate or was overridden, and was published to one of
    ``uris``. Return None if the outcomes of this version are those of another judge, guardrail or generation:
    only the final gate compares with it, after evaluating it again.

    If the gate's status lacks the case outcomes of this version, they are replaced by outcomes with the same
    number of passed cases. The outcomes in the gate's ConfigMap are never used, because more people may write
    to the ConfigMap than to status. A version that was
    published without passing, because the gate was a dry run, is no baseline. One that passed a dry run is a
    baseline only for a dry run.
    """
    records = [r for r in gate.status.records if r.is_baseline and (gate.spec.dry_run or not r.dry_run)]
    record = next((r for r in records if uris & set(r.published_uris)), None)
    if record is None or record.scoring not in (None, gate.spec.scoring):
        return None
    return PublishedVersion(
        job=record.job,
        golden_sha256=record.golden_sha256,
        outcomes=record.outcomes or counted_outcomes(record.passed, record.total),
        by_case=bool(record.outcomes),
    )
