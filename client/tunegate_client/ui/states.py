"""Say in words how a job is, and what the user should do next."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase, waits_for_a_person
from tunegate_client.places.caller import Caller
from tunegate_client.ui.reader import Job
from tunegate_operator.decisions import verdict_actions

Tone = Literal["good", "bad", "unsure", "busy"]
Group = Literal["waiting", "running", "succeeded", "failed"]
"""The groups of jobs in the list: those that wait for the user, that run, and that have ended."""

_TONES: dict[Phase, Tone] = {
    Phase.SUCCEEDED: "good",
    Phase.FAILED: "bad",
    Phase.STOPPED: "bad",
    Phase.SUSPENDED: "unsure",
    Phase.AWAITING_REVIEW: "unsure",
    Phase.AWAITING_APPROVAL: "unsure",
}
_ENDED: dict[Phase, Group] = {Phase.SUCCEEDED: "succeeded", Phase.FAILED: "failed"}


@dataclass(frozen=True)
class NextStep:
    """What the user should do next, and the commands for it."""

    text: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """How a job is."""

    title: str
    """The phase, or why the phase is not the whole truth."""
    tone: Tone
    """How the state should look. A job that waits, or that nobody runs, looks unsure."""
    group: Group
    message: str
    next: NextStep | None
    is_running: bool
    """Whether the state may change soon without the user."""


def state_of(job: Job, caller: Caller, *, is_cluster: bool = False, is_interrupted: bool = False) -> State:
    """Return the state of a job on a cluster or in a runs folder. ``is_interrupted`` means that no process
    runs the job in its runs folder."""
    status = job.status
    phase = status.phase or Phase.PENDING
    if job.problem:
        return State("Unreadable", "unsure", "waiting", job.problem, None, is_running=False)
    if is_interrupted:
        resume = caller.command("run", "…")
        step = NextStep("No process runs this job. Resume it from its last checkpoint:", (resume,))
        return State(f"{phase}, interrupted", "unsure", "waiting", status.message, step, is_running=False)
    waits = waits_for_a_person(status.phase, status.ready_reason)
    return State(
        title=phase,
        tone=_TONES.get(phase, "unsure" if waits or status.waiting_since else "busy"),
        group="waiting" if waits else _ENDED.get(phase, "running"),
        message=status.message,
        next=_next_step(job.name, phase, status, caller, is_cluster=is_cluster),
        is_running=not phase.is_final and not waits,
    )


def age_text(since: datetime, now: datetime) -> str:
    """Format the time since a moment with one unit, as kubectl does: ``5 min``, ``3 h``, ``12 d``."""
    seconds = max(0, int((now - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "now"


def _next_step(
    name: str, phase: Phase, status: FineTuneJobStatus, caller: Caller, *, is_cluster: bool
) -> NextStep | None:
    if phase is Phase.STOPPED:
        return NextStep(
            "Look at the regressed cases, then resume training or end the job:",
            tuple(caller.command(action, name, '--reason "…"') for action in ("continue", "discard")),
        )
    if phase is Phase.AWAITING_APPROVAL and status.final and not status.verdict_decision:
        return NextStep(
            "Look at the final verdict, then decide whether the model is published:",
            tuple(
                caller.command(action, name, '--reason "…"')
                for action in verdict_actions(status.final.verdict)
            ),
        )
    if phase is Phase.FAILED and status.failure and status.failure.hint:
        return NextStep(status.failure.hint)
    if phase is Phase.SUSPENDED:
        if is_cluster:
            return NextStep("Resume the job from its last checkpoint:", (caller.command("resume", name),))
        resume = caller.command("run", "…")
        return NextStep("Set spec.suspend to false, and resume the job from its last checkpoint:", (resume,))
    return NextStep(status.display.next) if status.display.next else None
