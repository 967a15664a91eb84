"""Compute events from the difference of two statuses, so that a restarted operator emits no event twice."""

from tunegate_api.meta import Condition, summarize
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.evaluation_status import MAX_NAMED_CASES, PersonDecision
from tunegate_api.v1alpha2.finetunejob_status import STOP_ACTIONS, Stop, TrackingStatus
from tunegate_api.v1alpha2.reasons import ConditionType, Phase, Reason
from tunegate_operator.decisions import PAST, decided_text
from tunegate_operator.engine.controller import Event
from tunegate_operator.finetunejob.checkpoint_events import checkpoint_events
from tunegate_operator.finetunejob.columns import is_unenforced, unenforced_text


def events_between(job: str, old: FineTuneJobStatus, new: FineTuneJobStatus) -> tuple[Event, ...]:
    """Return the events for a status change from ``old`` to ``new``. ``job`` is the job's arguments in a
    ``tunegate`` command, such as ``orders --namespace team``."""
    events: list[Event] = []
    if new.is_data_ready and not old.is_data_ready and new.data:
        data = new.data
        events.append(
            Event("Normal", "DataReady", f"{data.train} rows to train on, {data.dev} dev, {data.test} test")
        )
    events += checkpoint_events(old, new)
    regressing = _regressing(new)
    if regressing and not _regressing(old) and new.phase is not Phase.STOPPED:
        name = "GoldenRegressing" if regressing.reason == Reason.REGRESSING else regressing.reason
        events.append(Event("Warning", name, regressing.message))
    held = _held_by(new)
    if held and held != _held_by(old):
        events.append(Event("Warning", held, new.message))
    if new.stop and (old.stop is None or old.stop.id != new.stop.id):
        events.append(Event("Warning", new.stop.reason, _stop_text(job, new.stop)))
    if new.decisions[-1:] != old.decisions[-1:]:
        events += _about_decision(new.decisions[-1])
    if is_unenforced(new) and not is_unenforced(old):
        events.append(Event("Warning", Reason.NOT_ENFORCED, unenforced_text(new)))
    if new.tracking and new.tracking != old.tracking:
        events.append(_about_trackers(new.tracking))
    if new.cleanup and not old.cleanup:
        left = new.cleanup.result != "Succeeded"
        events.append(
            Event("Warning", "CleanupFailed", new.cleanup.message)
            if left
            else Event("Normal", "CleanedUp", new.cleanup.message)
        )
    if new.failure and not old.failure:
        hint = f" {new.failure.hint}" if new.failure.hint else ""
        events.append(Event("Warning", new.failure.reason, f"{new.failure.message}.{hint}"))
    elif new.phase is not old.phase and new.phase not in (None, Phase.STOPPED, Phase.FAILED):
        events.append(Event("Normal", str(new.phase), new.message))
    return tuple(events)


def _held_by(status: FineTuneJobStatus) -> str | None:
    """Return the reason why a job is held; None if the job is not held."""
    return status.ready_reason if status.is_held else None


def _about_decision(decision: PersonDecision) -> list[Event]:
    """Return the event about a decision. A rejection has none, because the event of the failure names it."""
    if decision.action in STOP_ACTIONS:
        text = f"{decision.action} at step {decision.step}: {decision.reason}"
        return [Event("Normal", "Decided", text)]
    if decision.action == "reject":
        return []
    overridden = decision.action == "override"
    name, text = PAST[decision.action].title(), decided_text(decision)
    return [Event("Warning" if overridden else "Normal", name, text)]


def _about_trackers(tracking: TrackingStatus) -> Event:
    if tracking.result is None:
        names = " and ".join(tracking.behind)
        return Event("Normal", "TrackersBehind", f"a pod sends the remaining metrics to {names}")
    if tracking.result == "Succeeded":
        return Event("Normal", "TrackersTold", tracking.message)
    return Event("Warning", "TrackersBehind", tracking.message)


def _regressing(status: FineTuneJobStatus) -> Condition | None:
    """Return the condition Regressing; None if it is not True."""
    found = (c for c in status.conditions if c.type == ConditionType.REGRESSING and c.status == "True")
    return next(found, None)


def _stop_text(job: str, stop: Stop) -> str:
    cases = summarize(stop.regressed_cases, MAX_NAMED_CASES, total=stop.regressed_count)
    regressed = f" Regressed: {cases}." if cases else ""
    is_safety = stop.reason == Reason.SAFETY_REGRESSION
    none = "no checkpoint passed" if is_safety else "the starting model was best"
    kept = f"step {stop.best_step} kept" if stop.best_step else none
    return (
        f"{stop.message}.{regressed} Training stopped, {kept}. "
        f'Continue or discard: tunegate continue|discard {job} --reason "…"'
    )
