"""Read a FineTuneJob from the cache: its spec, status, gates, records, children and reports."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import Report
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results
from tunegate_api.judging.review import MAX_SCORE_MAPS, ReviewRecord
from tunegate_api.meta import Sha256, find_condition
from tunegate_api.v1alpha2 import EvalGate, FineTuneJob
from tunegate_operator.children.after_end import pods_gone_by
from tunegate_operator.children.observed import Child, Ignored, observe_children
from tunegate_operator.children.pod_status import is_terminal
from tunegate_operator.children.records import UnreadableRecordError, read_record
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Refusal, View
from tunegate_operator.engine.objects import is_being_deleted
from tunegate_operator.finetunejob.build import grace_seconds, node_count, owner_of
from tunegate_operator.finetunejob.recorded_request import read_request
from tunegate_operator.finetunejob.required_gates import NOT_READ, RequiredGates, read_required_gates
from tunegate_operator.finetunejob.volumes import input_config_maps
from tunegate_operator.names import (
    PLAN_KEY,
    RESULTS_KEY,
    REVIEW_KEY,
    Step,
    plan_name,
    results_name,
    review_name,
)


@dataclass(frozen=True)
class EarlierJob:
    """A job that another job names in ``model.startFrom``."""

    job: FineTuneJob
    plan: Plan | None
    problem: str = ""
    """Why the plan's ConfigMap cannot be read; empty if it can be read or does not exist."""


@dataclass(frozen=True)
class ObservedJob:
    """The complete input of a decision about a FineTuneJob. The decision reads nothing else."""

    job: FineTuneJob
    gates: dict[str, EvalGate | None]
    """The gates that the spec names; None for a gate that does not exist or has an invalid spec."""
    missing_config_maps: tuple[str, ...]
    start_from: EarlierJob | None
    """The job in ``model.startFrom``; None if the spec names no job, or the job does not exist, is being
    deleted, or is invalid."""
    request: Request | None
    """The recorded request; None before the job has started."""
    request_sha256: Sha256 | None
    """Digest of the text of the recorded request."""
    plan: Plan | None
    results: Results
    """The recorded results; ``reports`` may contain newer results."""
    review: ReviewRecord | None
    """The scores with which the review of the data was decided; None if it is not decided."""
    score_maps: tuple[Object, ...]
    """The ConfigMaps with scores of reviewers, sorted by name. Empty for a job without ``data.quality``, and
    after the review was decided."""
    more_score_maps: int
    """How many further ConfigMaps have the label of scores."""
    children: tuple[Child, ...]
    ignored: tuple[Ignored, ...]
    """Jobs and pods that pass as children of this FineTuneJob, but are none."""
    reports: tuple[Report, ...]
    required_gates: RequiredGates
    """The gates that the job must name. They are read only for a job that could start otherwise."""
    refusal: Refusal | None
    """Why the last creation of a child failed; None if it succeeded."""
    has_pods: bool = False
    """Whether any pod of the job is still running or pending, even one whose Job is deleted. False for jobs
    without ``status.tracking``, for which it is not computed."""

    def attempts_of(self, step: Step) -> list[Child]:
        """Return the child Jobs of a step that are not being deleted, sorted by attempt."""
        return sorted(
            (c for c in self.children if c.step == step and not c.deleting), key=lambda c: c.attempt
        )

    def pods_gone_by(self, ended: datetime) -> datetime:
        """Return the time by which all pods of a job that ended at ``ended`` have certainly stopped
        writing."""
        return pods_gone_by(
            self.children,
            self.job.status.attempts,
            lambda step: grace_seconds(self.job, step, self.plan),
            ended,
        )

    def report_of(self, step: Step) -> Report | None:
        return next((r for r in self.reports if (r.role, r.stage) == (step.role, step.stage)), None)


def observe(obj: Object, view: View, required_gates: tuple[str, ...] = ()) -> ObservedJob:
    """Read a FineTuneJob with a valid spec, and everything that decisions need, from the cache. Its status
    may be parsed already. ``required_gates`` are the gates that the cluster requires of every job.

    Raises :class:`UnreadableRecordError` if the recorded request, plan or results were edited or written by
    another version, and RequestChangedError if the request is not the one with which the job started.
    """
    job = FineTuneJob.model_validate(obj)
    meta = job.metadata
    names = {g.name for g in job.spec.gates} | {g.name for s in job.spec.stages for g in s.gates or []}
    gates = {name: view.parsed(Key("EvalGate", meta.namespace, name), _gate) for name in sorted(names)}
    config_maps = input_config_maps(job.spec, [g.spec for g in gates.values() if g])
    children, ignored = observe_children(obj, view, steps_of(job))
    owner = owner_of(job)
    plan = read_record(view, owner, plan_name(meta.name, meta.uid), PLAN_KEY, Plan)
    review = _review(view, job, plan) if job.spec.data.quality else None
    scores = _scores(view, job) if job.spec.data.quality and review is None else []
    missing = tuple(name for name in config_maps if not view.has(Key("ConfigMap", meta.namespace, name)))
    recorded = read_request(job, view, has_children=bool(children))
    is_new = recorded is None and job.status.failure is None
    may_lack = any(gate and gate.spec.dry_run for gate in gates.values())
    may_be_ready = all(gate and (gate.spec.dry_run or is_ready(gate)) for gate in gates.values())
    may_start = is_new and not job.spec.suspend and (may_lack or not missing) and may_be_ready
    return ObservedJob(
        job=job,
        gates=gates,
        missing_config_maps=missing,
        start_from=_earlier_job(view, job),
        request=recorded[0] if recorded else None,
        request_sha256=recorded[1] if recorded else None,
        plan=plan,
        results=read_record(view, owner, results_name(meta.name, meta.uid), RESULTS_KEY, Results)
        or Results(),
        review=review,
        score_maps=tuple(found for key in scores[:MAX_SCORE_MAPS] if (found := view.get(key))),
        more_score_maps=len(scores[MAX_SCORE_MAPS:]),
        children=children,
        ignored=ignored,
        reports=tuple(Report.model_validate(report) for report in view.reports(meta.uid)),
        required_gates=read_required_gates(view, meta.namespace, required_gates) if may_start else NOT_READ,
        refusal=view.refusal(meta.uid),
        has_pods=job.status.tracking is not None and has_pods(meta.namespace, meta.name, view),
    )


def steps_of(job: FineTuneJob) -> dict[Step, int]:
    """Return each step that a job may have, with the number of its pods that run at the same time."""
    steps = [Step(Role.TRAIN, stage.name) for stage in job.spec.stages]
    steps += [Step(role) for role in Role if role is not Role.TRAIN]
    return {step: node_count(job, step.role) for step in steps}


def _review(view: View, job: FineTuneJob, plan: Plan | None) -> ReviewRecord | None:
    """Return the recorded review of a job's sample; None if it is not decided."""
    meta = job.metadata
    name, sample = review_name(meta.name, meta.uid), plan.data.review if plan else None
    review = read_record(view, owner_of(job), name, REVIEW_KEY, ReviewRecord)
    if review and sample and review.sample != sample.sha256:
        raise UnreadableRecordError(name, "its scores are not about the sample in the plan")
    return review


def _scores(view: View, job: FineTuneJob) -> list[Key]:
    """Return the keys of the ConfigMaps that have scores for the review sample of a job, sorted by name."""
    meta = job.metadata
    return sorted(view.referrers(Key("FineTuneJob", meta.namespace, meta.name), "ConfigMap"))


def has_pods(namespace: str, name: str, view: View) -> bool:
    """Whether any pod of the FineTuneJob ``name`` is still running or pending."""
    pods = view.referrers(Key("FineTuneJob", namespace, name), "Pod")
    return any(pod and not is_terminal(pod) for pod in map(view.get, pods))


def _gate(obj: Object) -> EvalGate | None:
    """Return a gate; None if it is invalid. The gate's own status shows what is invalid."""
    try:
        return EvalGate.model_validate(obj)
    except ValidationError:
        return None


def is_ready(gate: EvalGate) -> bool:
    """Whether jobs can use a gate: its status is about its current spec, and says so."""
    ready = find_condition(gate.status.conditions, "Ready")
    return (
        gate.status.digest is not None
        and (gate.spec.safety is None or gate.status.safety_digest is not None)
        and ready is not None
        and ready.status == "True"
        and ready.observed_generation == gate.metadata.generation
    )


def _earlier_job(view: View, job: FineTuneJob) -> EarlierJob | None:
    """Return the job in ``model.startFrom``; None if the spec names no job, or the job does not exist, is
    being deleted, or is invalid."""
    name, namespace = job.spec.model.start_from, job.metadata.namespace
    found = view.get(Key("FineTuneJob", namespace, name)) if name else None
    if found is None or is_being_deleted(found):  # its files may be removed at any moment
        return None
    try:
        earlier = FineTuneJob.model_validate(found)
    except ValidationError:
        return None
    meta = earlier.metadata
    try:
        plan = read_record(view, owner_of(earlier), plan_name(meta.name, meta.uid), PLAN_KEY, Plan)
    except UnreadableRecordError as error:
        return EarlierJob(earlier, None, str(error))
    return EarlierJob(earlier, plan)
