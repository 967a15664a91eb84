"""Show jobs while they change: as a live view on a terminal, or otherwise as one line per change."""

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_client.cli.display import JobTable, PlainLog, job_view, jobs_table, utc_now
from tunegate_client.places.caller import Caller

Statuses = Mapping[str, FineTuneJobStatus]


class LiveView:
    """Shows the status of jobs by name. Use it as a context manager, which restores the terminal."""

    def __init__(self, console: Console, caller: Caller) -> None:
        self._console = console
        self._caller = caller
        self._plain: dict[str, PlainLog] = {}
        self._problems = set[str]()
        self._live: Any = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show_jobs(self, jobs: Statuses, interrupted: Collection[str] = ()) -> None:
        """Show each job in detail."""
        now = utc_now()
        self._show(
            jobs,
            Group(
                *(
                    job_view(name, status, now, self._caller, is_interrupted=name in interrupted)
                    for name, status in jobs.items()
                )
            ),
        )

    def show_table(self, jobs: JobTable) -> None:
        """Show one line for each job."""
        self._show(jobs.statuses, jobs_table(jobs, self._caller))
        if not self._console.is_terminal:
            for problem in sorted(set(jobs.unreadable.values()) - self._problems):
                self._problems.add(problem)
                self._console.print(problem, highlight=False, markup=False, soft_wrap=True)

    def _show(self, jobs: Statuses, view: RenderableType) -> None:
        if self._console.is_terminal:
            self._live.update(view, refresh=True)
            return
        for name, status in jobs.items():
            self._plain.setdefault(name, PlainLog(self._console, name)).show(status)
