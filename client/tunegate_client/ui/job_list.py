"""Prepare the list of jobs and gates: rows in the order of their urgency, with a filter and pages."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2 import EvalGateStatus, FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.verdict.outcomes import rate
from tunegate_client.places.caller import Caller
from tunegate_client.ui.charts import spark_line
from tunegate_client.ui.reader import Gate, Job
from tunegate_client.ui.states import Group, State, age_text, state_of

ROWS_PER_PAGE = 100
GROUPS: tuple[tuple[Group, str], ...] = (
    ("waiting", "Waiting for you"),
    ("running", "Running"),
    ("succeeded", "Succeeded"),
    ("failed", "Failed"),
)
_ORDER = {key: i for i, (key, _) in enumerate(GROUPS)} | {"failed": 2}
"""Jobs that need a person come first, then jobs that run, then jobs that have ended."""

_TRAINING = (Phase.QUEUED, Phase.TRAINING, Phase.STOPPED, Phase.SUSPENDED)
"""Phases in which a stage is training, or will be resumed."""


@dataclass(frozen=True)
class JobRow:
    """A job in the list."""

    name: str
    state: State
    stage: str
    percent: int | None
    """Progress of the stage that is training, or that will be resumed. None if there is no such stage."""
    left: float | None
    """Estimated seconds until the end of the stage."""
    golden: str
    spark: str
    gate: str
    best: str
    age: str


@dataclass(frozen=True)
class GateRow:
    """A gate in the list."""

    name: str
    ready: bool
    message: str
    cases: int | None
    verdict: str
    last: str
    pass_rate: str
    base_rate: str
    published_rate: str
    spark: str


@dataclass(frozen=True)
class JobPage:
    """One page of the filtered list."""

    rows: tuple[JobRow, ...]
    counts: tuple[tuple[Group, str, int], ...]
    """Key, title and number of jobs of each group, without the filter by group."""
    total: int
    """The number of jobs without the filter by group."""
    found: int
    """The number of jobs that match the filter, on all pages."""
    show: str
    search: str
    page: int
    pages: int


def job_list(
    jobs: Sequence[Job],
    interrupted: Collection[str],
    now: datetime,
    caller: Caller,
    *,
    is_cluster: bool = False,
    show: str = "",
    search: str = "",
    page: int = 1,
) -> JobPage:
    """Return a page of the jobs in the group ``show`` whose names contain ``search``. Empty filters match all
    jobs, and a page that does not exist is replaced by the nearest page.

    ``interrupted`` has the names of the jobs that no process runs.
    """
    named = [
        (state_of(job, caller, is_cluster=is_cluster, is_interrupted=job.name in interrupted), job)
        for job in jobs
        if search.lower() in job.name
    ]
    counts = Counter(state.group for state, _ in named)
    show = show if show in _ORDER else ""
    chosen = [(state, job) for state, job in named if not show or state.group == show]
    chosen.sort(key=lambda pair: _changed(pair[1]), reverse=True)
    chosen.sort(key=lambda pair: _ORDER[pair[0].group])
    pages = max(1, -(-len(chosen) // ROWS_PER_PAGE))
    page = min(max(1, page), pages)
    shown = chosen[(page - 1) * ROWS_PER_PAGE : page * ROWS_PER_PAGE]
    return JobPage(
        rows=tuple(_job_row(job, state, now) for state, job in shown),
        counts=tuple((key, title, counts[key]) for key, title in GROUPS),
        total=len(named),
        found=len(chosen),
        show=show,
        search=search,
        page=page,
        pages=pages,
    )


def gate_row(gate: Gate) -> GateRow:
    """Return the row of a gate."""
    status: EvalGateStatus = gate.status
    ready = find_condition(status.conditions, "Ready")
    records = [record for record in reversed(status.records) if record.total]
    return GateRow(
        name=gate.name,
        ready=ready is not None and ready.status == "True",
        message=gate.problem or (ready.message if ready else "The golden set has not been read yet."),
        cases=status.cases,
        verdict=status.last_verdict or "",
        last=(status.last or "") + (", dry run" if status.records and status.records[0].dry_run else ""),
        pass_rate=status.pass_rate or "",
        base_rate=status.base_rate or "",
        published_rate=status.published_rate or "",
        spark=spark_line([rate(record.passed, record.total) for record in records]),
    )


def _changed(job: Job) -> float:
    """Return when a job ended or, for a job that has not ended, when it was created."""
    at = job.status.completion_time or job.created
    return at.timestamp() if at else 0.0


def _job_row(job: Job, state: State, now: datetime) -> JobRow:
    status: FineTuneJobStatus = job.status
    progress = status.progress if status.phase in _TRAINING else None
    ends = progress.estimated_end if progress and state.is_running else None
    evaluated = [*status.start[:1], *status.checkpoints]
    golden = [next((g.golden for g in checkpoint.gates if g.golden), None) for checkpoint in evaluated]
    return JobRow(
        name=job.name,
        state=state,
        stage=status.display.stage,
        percent=progress.percent if progress else None,
        left=(ends - now).total_seconds() if ends and ends > now else None,
        golden=status.display.golden,
        spark=spark_line([rate(g.passed, g.total) for g in golden if g and g.total]),
        gate=status.display.gate,
        best=status.display.best,
        age=age_text(job.created, now) if job.created else "",
    )
