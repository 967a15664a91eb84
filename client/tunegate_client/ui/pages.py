"""Render the pages from what a reader returns. Text from users and models is escaped."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from tunegate_client.places.caller import Caller
from tunegate_client.places.client import ClientError
from tunegate_client.ui.gate_view import gate_view
from tunegate_client.ui.job_list import gate_row, job_list
from tunegate_client.ui.job_view import checkpoints
from tunegate_client.ui.reader import Job, Reader
from tunegate_client.ui.states import state_of
from tunegate_client.ui.templating import environment, utc
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.events import event_count, event_time
from tunegate_operator.engine.objects import moment

REFRESH_SECONDS = 2
"""Seconds between two updates of a page about something that may change soon."""
SLOW_REFRESH_SECONDS = 10
"""Seconds between two updates of other pages."""
SHOWN_EVENTS = 50


@dataclass(frozen=True)
class ShownEvent:
    """An Event of a job, as its page shows it."""

    time: datetime | None
    type: str
    reason: str
    message: str
    count: int


class Pages:
    """Renders the pages. Its methods raise ClientError, and may be called in several threads."""

    def __init__(self, reader: Reader, caller: Caller, *, is_cluster: bool) -> None:
        self._reader = reader
        self._caller = caller
        self._is_cluster = is_cluster

    def overview(self, *, show: str = "", search: str = "", page: int = 1) -> str:
        """Render the list of jobs and gates."""
        jobs, now = self._reader.jobs(), self._reader.clock.now()
        interrupted = self._reader.interrupted(jobs)
        return self._render(
            "overview",
            jobs=job_list(
                jobs,
                interrupted,
                now,
                self._caller,
                is_cluster=self._is_cluster,
                show=show,
                search=search,
                page=page,
            ),
            gates=[gate_row(gate) for gate in self._reader.gates()],
            how_to_start=self._how_to_start,
        )

    def job(self, name: str) -> str:
        """Render the page of a job. Raises UnknownNameError."""
        job = self._reader.job(name)
        status, now = job.status, self._reader.clock.now()
        interrupted = self._reader.interrupted([job])
        state = state_of(job, self._caller, is_cluster=self._is_cluster, is_interrupted=name in interrupted)
        ends = status.progress.estimated_end if status.progress and state.is_running else None
        events, events_problem = self._events(job)
        return self._render(
            "job",
            refresh=REFRESH_SECONDS if state.is_running else SLOW_REFRESH_SECONDS,
            job=job,
            state=state,
            subtitle=_subtitle(job),
            left=(ends - now).total_seconds() if ends and ends > now else None,
            view=checkpoints(status),
            report=self._report_version(job),
            events=events,
            events_problem=events_problem,
            report_command=self.report_command(name) if self._is_cluster else "",
            has_report=bool(status.checkpoints or status.start or status.failure),
        )

    def gate(self, name: str) -> str:
        """Render the page of a gate. Raises UnknownNameError."""
        gate = self._reader.gate(name)
        view = gate_view(gate, self._reader.jobs())
        return self._render("gate", refresh=SLOW_REFRESH_SECONDS, gate=gate, view=view)

    def error(self, status: HTTPStatus, message: str) -> str:
        """Render the page of an error. It is updated, because the cause may disappear."""
        return self._render("error", refresh=SLOW_REFRESH_SECONDS, title=status.phrase, message=message)

    def report_command(self, name: str) -> str:
        """Return the command that fetches a job's report from its volume on a cluster."""
        return self._caller.command("report", name)

    @property
    def _how_to_start(self) -> str:
        if self._is_cluster:
            return "Create one with kubectl apply."
        return f"Start one with {self._caller.command('run', '…')}."

    def _report_version(self, job: Job) -> str:
        """Return a text that changes with the report of a job. It is empty if there is no report yet, and on
        a cluster, where a pod has to read the report."""
        if self._is_cluster:
            return ""
        try:
            return hashlib.sha256(self._reader.report(job)).hexdigest()[:16]
        except ClientError:
            return ""

    def _events(self, job: Job) -> tuple[list[ShownEvent] | None, str]:
        """Return the newest events, newest first. If they cannot be read, return None and the reason."""
        try:
            events = self._reader.events(job)
        except ClientError as error:
            return None, str(error)
        return [_event(event) for event in reversed(events[-SHOWN_EVENTS:])], ""

    def _render(self, template: str, *, refresh: int = REFRESH_SECONDS, **content: Any) -> str:
        page = environment().get_template(f"{template}.html.j2")
        return page.render(refresh=refresh, place=self._reader.client.place, **content)


def _event(event: Object) -> ShownEvent:
    time = event_time(event)
    return ShownEvent(
        time=moment(time) if time else None,
        type=str(event.get("type", "")),
        reason=str(event.get("reason", "")),
        message=str(event.get("message", "")),
        count=event_count(event),
    )


def _subtitle(job: Job) -> str:
    """Return what the job trains, as far as its spec, which may be invalid, says it."""
    spec = job.obj.get("spec") or {}
    stages = [str(stage.get("method", "")) for stage in spec.get("stages") or () if isinstance(stage, dict)]
    model = spec.get("model") or {}
    start = f"the model of job {model['startFrom']}" if model.get("startFrom") else model.get("uri", "")
    goal = (spec.get("data") or {}).get("goal", "")
    parts = [goal, f"{', then '.join(stages)} on {start}" if stages and start else ""]
    parts += [f"created {utc(job.created)}" if job.created else ""]
    return " · ".join(str(part) for part in parts if part)
