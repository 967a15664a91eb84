"""Show jobs in the output of a notebook's cell."""

import io
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from rich.console import Console, Group, RenderableType

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_client.cli.display import job_view, utc_now

WIDTH = 100
"""Width of the output in characters."""
_FORMAT = '<pre style="line-height: 1.3; overflow-x: auto">{code}</pre>'


class NotebookView:
    """Shows the status of jobs by name in one output of a notebook, which it updates."""

    def __init__(self) -> None:
        self._ipython: Any = import_module("IPython.display")  # installed wherever a notebook runs
        self._shown = ""
        self._output = self._ipython.display(self._ipython.HTML(""), display_id=True)

    def show_jobs(self, jobs: Mapping[str, FineTuneJobStatus]) -> None:
        """Show each job in detail."""
        now = utc_now()
        shown = as_html(Group(*(job_view(name, status, now) for name, status in jobs.items())))
        if shown != self._shown:
            self._shown = shown
            self._output.update(self._ipython.HTML(shown))


def as_html(view: RenderableType) -> str:
    """Render ``view`` as HTML."""
    console = Console(file=io.StringIO(), record=True, width=WIDTH, force_jupyter=False)
    console.print(view)
    return console.export_html(code_format=_FORMAT, inline_styles=True)
