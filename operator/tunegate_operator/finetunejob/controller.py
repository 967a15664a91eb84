"""The FineTuneJob controller: observe a job, decide, and return its status, actions and events."""

from collections.abc import Iterable
from datetime import datetime

from tunegate_api import GROUP
from tunegate_api.meta import cut, find_condition, summarize
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import ConditionType, Phase, Reason
from tunegate_api.validation.problems import Problem
from tunegate_operator.children.job import PodSettings
from tunegate_operator.children.observed import Ignored
from tunegate_operator.children.records import UnreadableRecordError
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import (
    Action,
    Agenda,
    Create,
    Decision,
    Event,
    Refusal,
    View,
    parse_status,
)
from tunegate_operator.engine.internal_errors import has_internal_error
from tunegate_operator.engine.objects import is_being_deleted
from tunegate_operator.engine.owners import controlling_owner
from tunegate_operator.engine.problems import problems_of
from tunegate_operator.finetunejob.absorb import measured_baselines
from tunegate_operator.finetunejob.conditions import with_conditions, with_hold, with_refused_spec
from tunegate_operator.finetunejob.decide import decide
from tunegate_operator.finetunejob.deletion import decide_deletion, has_finalizer, with_finalizer
from tunegate_operator.finetunejob.draft import Draft, Run
from tunegate_operator.finetunejob.events import events_between
from tunegate_operator.finetunejob.lifecycle import with_lifecycle
from tunegate_operator.finetunejob.observe import ObservedJob, observe
from tunegate_operator.finetunejob.recorded_request import RequestChangedError
from tunegate_operator.finetunejob.status_size import below_size_limit
from tunegate_operator.finetunejob.tracking import send_remaining_metrics
from tunegate_operator.finetunejob.ttl import clean_up
from tunegate_operator.names import JOB_LABEL, REVIEW_LABEL, config_map_names, gate_names, start_from

_FINAL = tuple(phase.value for phase in Phase if phase.is_final)
_JOB_LABELS = {"ConfigMap": REVIEW_LABEL, "Pod": JOB_LABEL}
"""By kind, the label whose value is the name of the job that an object is about."""
_CHANGING_MESSAGES = (
    Reason.POD_UNSCHEDULABLE,
    Reason.QUOTA_EXCEEDED,
    Reason.VOLUME_NOT_READY,
)
"""Reasons to wait whose message has counts of nodes or of other jobs' resources, or ids of processes."""
MAX_PROBLEMS = 10
"""How many problems of a spec the status message lists. The message counts the remaining problems."""


class FineTuneJobController:
    """Decide about FineTuneJobs. An instance has settings, but no state.

    ``required_gates`` are the gates that the cluster requires of every job.
    """

    kind = "FineTuneJob"

    def __init__(self, pods: PodSettings, required_gates: tuple[str, ...] = ()) -> None:
        self._pods = pods
        self._required_gates = required_gates

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        """Return the decision about one FineTuneJob; None if there is nothing to do."""
        if is_being_deleted(obj):
            return decide_deletion(obj, view, now, self._pods) if has_finalizer(obj) else None
        if _is_done(obj, view):
            return None
        old, name = parse_status(obj, FineTuneJobStatus), self._command_arguments(obj)
        if old.phase is not None and old.phase.is_final:
            return self._after_the_end(obj, old, view, now)
        problems, has_started = problems_of(obj), _has_started(obj, old, view)
        if problems and has_started:
            return self._hold(obj, old, Reason.SPEC_NOT_UNDERSTOOD, _not_understood(problems), now)
        if problems:
            new = _refused(obj, old, problems, now)
            return Decision(new.to_wire(), events=events_between(name, old, new))
        try:
            observed = observe(obj | {"status": old}, view, self._required_gates)
        except (UnreadableRecordError, RequestChangedError) as error:
            return self._hold(obj, old, *_held_because(error), now)
        draft = decide(observed, now, self._pods)
        new = with_conditions(observed.job, draft)
        new = below_size_limit(with_lifecycle(new, now, publishes=bool(observed.job.spec.publish)))
        return Decision(
            status=new.to_wire(),
            actions=with_finalizer(draft.agenda.actions, obj, observed.job),
            events=events_between(name, old, new),
            warnings=(
                *_about_ignored(observed.ignored),
                *_about_baselines(observed),
            ),
            requeue_after=draft.agenda.requeue_after,
            needed_actions=_needed_actions(draft.agenda.actions, old, new),
            message_is_progress=_message_is_progress(new, observed.refusal),
        )

    def _hold(self, obj: Object, old: FineTuneJobStatus, reason: Reason, why: str, now: datetime) -> Decision:
        """Hold a job that has started: change only its message and conditions. The start timeout begins again
        after the hold.

        While a job is held, its reports are not acknowledged, because status does not include them. Pods keep
        the reports in the outbox on the volume, and a pod waits up to a minute longer before it exits.
        """
        generation = obj["metadata"].get("generation", 1)
        update = {"observed_generation": generation, "message": cut(f"held: {why}"), "waiting_since": None}
        new = with_hold(old.model_copy(update=update), reason, generation=generation, now=now)
        events = events_between(self._command_arguments(obj), old, new)
        return Decision(below_size_limit(new).to_wire(), events=events, acknowledges=False)

    def _after_the_end(self, obj: Object, old: FineTuneJobStatus, view: View, now: datetime) -> Decision:
        """Decide about a job that ended: send the remaining metrics to its trackers, clean up, or do
        nothing."""
        current = _with_generation(obj, old)
        if not (_has_ttl(obj) or _has_metrics_to_send(current.to_wire())) or problems_of(obj):
            return Decision(current.to_wire())
        try:
            run = Run(observe(obj | {"status": current}, view), Draft(current, Agenda(now)), self._pods)
        except (UnreadableRecordError, RequestChangedError) as error:  # the remaining work needs the record
            return Decision(current.to_wire(), warnings=(Event("Warning", *_held_because(error)),))
        if send_remaining_metrics(run) and _has_ttl(obj):
            clean_up(run)
        draft = run.draft
        return Decision(
            status=below_size_limit(draft.status).to_wire(),
            actions=tuple(draft.agenda.actions),
            events=events_between(self._command_arguments(obj), old, draft.status),
            requeue_after=draft.agenda.requeue_after,
        )

    def _command_arguments(self, obj: Object) -> str:
        """Return the arguments that name the job in a ``tunegate`` command."""
        return self._pods.command_arguments(obj["metadata"]["name"], obj["metadata"]["namespace"])

    def references(self, obj: Object) -> Iterable[Key]:
        """Yield the keys of the gates and ConfigMaps that a pending or new job names, and of the job in its
        ``model.startFrom``; other jobs have recorded them, and need them no more. A pod, and a ConfigMap with
        scores, reference the job of their label."""
        metadata = obj["metadata"]
        namespace, labels = metadata.get("namespace", "default"), metadata.get("labels") or {}
        if (label := _JOB_LABELS.get(obj["kind"])) in labels:
            yield Key(self.kind, namespace, labels[label])
        if obj["kind"] != self.kind or (obj.get("status") or {}).get("phase") not in (None, Phase.PENDING):
            return
        if (started_from := start_from(obj)) is not None:
            yield Key(self.kind, namespace, started_from)
        for kind, names in (("EvalGate", gate_names(obj)), ("ConfigMap", config_map_names(obj))):
            for name in names:
                yield Key(kind, namespace, name)

    def index(self, obj: Object) -> Iterable[tuple[Key, str]]:
        """Return no keys: a decision about a job reads only objects that it names or owns."""
        del obj
        return ()

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:
        """Return the jobs that may wait for a changed object: an EvalGate that they name, a ConfigMap that
        they or their gates name or that has scores for their review, or a new or ended job that they start
        from."""
        key, phase = Key.of(changed), (changed.get("status") or {}).get("phase")
        is_new_or_ended_job = key.kind == self.kind and phase in (None, *_FINAL)
        if key.kind == "EvalGate" or is_new_or_ended_job:
            return view.referrers(key, self.kind)
        if key.kind == "ConfigMap" and not _is_of_a_job(changed):
            named = [key, *view.referrers(key, "EvalGate")]
            waiting = [job for each in named for job in view.referrers(each, self.kind)]
            # A ConfigMap that lost the label of scores concerns the job that it had scores for.
            reviewed = [job for job in view.references(changed) if job.kind == self.kind and view.has(job)]
            return dict.fromkeys([*waiting, *reviewed])
        return []


def _is_of_a_job(config_map: Object) -> bool:
    """Whether the controlling owner of a ConfigMap is a FineTuneJob. ConfigMaps of users may have other
    owners."""
    owner = controlling_owner(config_map)
    return owner is not None and (owner.group, owner.key.kind) == (GROUP, FineTuneJobController.kind)


def _message_is_progress(status: FineTuneJobStatus, refusal: Refusal | None) -> bool:
    """Whether the message is the cluster's and may change often, with the same reason. While the cluster is
    unavailable, each retry may name another port."""
    if refusal and refusal.cause == "Unavailable" and refusal.is_repeated:
        return True
    ready = find_condition(status.conditions, ConditionType.READY)
    return ready is not None and ready.reason in _CHANGING_MESSAGES


def _about_ignored(ignored: tuple[Ignored, ...]) -> tuple[Event, ...]:
    """Return an event about the first Job or pod only, because there may be many."""
    passes_as = {
        "Job": "names this FineTuneJob as its owner, but is not one of its attempts",
        "Pod": "names a Job of this FineTuneJob as its owner, but is not one of its pods",
    }
    return tuple(
        Event(
            "Warning",
            "ChildIgnored",
            f"{one.kind} {one.name} {passes_as[one.kind]}: {one.problem}. The operator ignores it. "
            "Delete it; see Ignored Jobs and pods in docs/security.md.",
        )
        for one in ignored[:1]
    )


def _about_baselines(observed: ObservedJob) -> tuple[Event, ...]:
    """Return an event about the first cached baseline that a pod refused because its digest differs from the
    recorded one. Somebody may have forged the baseline."""
    refused = [baseline for baseline in measured_baselines(observed) if baseline.refused]
    return tuple(
        Event(
            "Warning",
            "BaselineRefused",
            f"The cached baseline {each.key}.json on the volume has sha256 {each.refused}, which is not the "
            "digest that the operator recorded. The pod did not use it and measured the base model again. "
            "Check who can write to the volume.",
        )
        for each in refused[:1]
    )


def _is_done(obj: Object, view: View) -> bool:
    """Whether nothing is left to do for a job. For speed, the object is not validated."""
    status = obj.get("status") or {}
    return (
        status.get("phase") in _FINAL
        and status.get("observedGeneration") == obj["metadata"].get("generation", 1)
        and not _has_metrics_to_send(status)
        and not has_internal_error(status)
        and (not _has_ttl(obj) or ("cleanup" in status and not view.children(obj, "Job")))
    )


def _has_metrics_to_send(status: Object) -> bool:
    """Whether a job that ended still has metrics to send to its trackers."""
    tracking = status.get("tracking")
    return tracking is not None and "result" not in tracking


def _has_ttl(obj: Object) -> bool:
    """Whether ``ttlSecondsAfterFinished`` is set. The spec may be invalid."""
    spec = obj.get("spec")
    return isinstance(spec, dict) and spec.get("ttlSecondsAfterFinished") is not None


def _with_generation(obj: Object, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """Return the status of a job that ended, with the generation of its current spec. A change of the spec
    has no other effect after the end."""
    generation = obj["metadata"].get("generation", 1)
    if {status.observed_generation, *(c.observed_generation for c in status.conditions)} == {generation}:
        return status
    conditions = [c.model_copy(update={"observed_generation": generation}) for c in status.conditions]
    return status.model_copy(update={"observed_generation": generation, "conditions": conditions})


def _has_started(obj: Object, status: FineTuneJobStatus, view: View) -> bool:
    """Whether a job has started: status names its request, or it owns children."""
    return status.request is not None or any(view.children(obj, kind) for kind in ("ConfigMap", "Job"))


def _needed_actions(actions: list[Action], old: FineTuneJobStatus, new: FineTuneJobStatus) -> int:
    """Return how many of the first actions must have succeeded before the new status is written: all if the
    job ends, and the creation of the request if the status has the digest of a new request."""
    if new.phase is not None and new.phase.is_final:
        return len(actions)
    is_new = new.request_sha256 != old.request_sha256
    is_request = actions and isinstance(actions[0], Create) and actions[0].obj["kind"] == "ConfigMap"
    return 1 if is_new and is_request else 0


def _summarized(problems: list[Problem]) -> str:
    """Return at most MAX_PROBLEMS problems as text, with the number of the remaining ones."""
    return summarize([str(problem) for problem in problems], MAX_PROBLEMS, separator="; ", last="; and ")


def _not_understood(problems: list[Problem]) -> str:
    """Return why a job that has started is held because of its spec.

    The spec was valid when the job started, and the API server refuses changes of fields that matter. So
    the job was started with another version of the operator or of the CustomResourceDefinitions.
    """
    return (
        "this version of the operator does not understand the spec, which another version wrote or accepts; "
        f"upgrade the operator, or change the spec back: {_summarized(problems)}"
    )


def _held_because(error: UnreadableRecordError | RequestChangedError) -> tuple[Reason, str]:
    """Return the reason why a job with such a record is held, and what happened and what to do."""
    restore = "restore the ConfigMap (see Restoring records in docs/install.md)"
    if isinstance(error, RequestChangedError):
        what_to_do = f"{restore} from a backup, or delete the job and apply it again"
        return Reason.REQUEST_CHANGED, f"{error}; {what_to_do}"
    return Reason.RECORD_UNREADABLE, (
        f"{error}; the ConfigMap was edited, or another version of the operator wrote it: {restore}, upgrade "
        "the operator, or delete the job"
    )


def _refused(
    obj: Object, old: FineTuneJobStatus, problems: list[Problem], now: datetime
) -> FineTuneJobStatus:
    """Return the status of a job that fails at once because its spec is invalid. The status names the
    problems."""
    failure = Failure(
        reason=Reason.INVALID_SPEC,
        message=_summarized(problems),
        hint="tunegate validate FILE shows every problem with its line.",
    )
    generation = obj["metadata"].get("generation", 1)
    ended = old.model_copy(
        update={
            "observed_generation": generation,
            "phase": Phase.FAILED,
            "failure": failure,
            "message": cut(f"{failure.reason}: {failure.message}"),
            "completion_time": old.completion_time or now,
        }
    )
    spec = obj.get("spec")
    ended = with_refused_spec(ended, generation=generation, now=now)
    return with_lifecycle(ended, now, publishes=isinstance(spec, dict) and bool(spec.get("publish")))
