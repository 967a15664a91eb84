"""Run a job on this machine, with its progress, and return its result."""

import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tunegate.manifests import InvalidError, Resource, as_object, check_objects
from tunegate.notebook import NotebookView, as_html
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_client.cli.display import job_view, utc_now
from tunegate_client.cli.live import LiveView
from tunegate_client.cli.place import short
from tunegate_client.laptop.cluster import RootInUseError
from tunegate_client.laptop.manifests import RefusedError, job_names, project_of
from tunegate_client.laptop.run import Laptop
from tunegate_client.laptop.status import read_status
from tunegate_client.places.caller import TUNEGATE
from tunegate_operator.engine.cluster import ClusterError, Object

RUNS = "runs"
"""The default folder for runs, as of the command `tunegate run`."""


@dataclass(frozen=True)
class Result:
    """The result of a job. A notebook shows it as its status, with a link to the report."""

    name: str
    status: FineTuneJobStatus
    """The status of the job, as ``kubectl get finetunejob --output yaml`` shows it."""
    report: Path | None
    """The report, an HTML file. None if the job ended before there was one."""
    status_file: Path
    """The job with its status, as YAML."""

    @property
    def passed(self) -> bool:
        """Whether the job succeeded: its model passed all gates, or a person overrode its verdict, and it is
        published."""
        return self.status.phase is Phase.SUCCEEDED

    def _repr_html_(self) -> str:
        link = ""
        if self.report:
            path = html.escape(str(short(self.report)))
            link = f'<p><a href="{path}" target="_blank">{path}</a></p>'
        return as_html(job_view(self.name, self.status, utc_now())) + link


class NotStartedError(Exception):
    """A job was not started, because the folder of the runs does not allow it: for example, the job has
    already run with other inputs, or another process uses the folder."""


class NotPassedError(Exception):
    """A job did not succeed: it failed, was stopped by a gate, is suspended, or awaits a review or an
    approval. ``result`` has its status."""

    def __init__(self, result: Result) -> None:
        self.result = result
        status = result.status
        text = f"job {result.name}: {status.phase}: {status.message}"
        super().__init__(f"{text}\n{status.failure.hint}" if status.failure else text)


def run(*resources: Resource, runs: Path | str = RUNS, again: bool = False, check: bool = True) -> Result:
    """Run one job on this machine, without a cluster, and return its result.

    ``resources`` are the job and the gates and ConfigMaps that it refers to. Relative file:// addresses are
    relative to the working directory. The files in ``runs`` are those of `tunegate run`, so the commands
    `tunegate status`, `review`, `continue` and `ui` work on the job, too. If the job has already ended, its
    result is returned at once; ``again`` deletes the earlier run and starts over.

    A terminal and a notebook show the progress. An interrupt saves a checkpoint, and the next call resumes
    from it.

    Raises :class:`InvalidError` if the resources have mistakes, :class:`NotStartedError` if the job or its
    inputs changed since an earlier run, and :class:`NotPassedError` if the job did not succeed. With
    ``check=False``, the result of a job that did not succeed is returned.
    """
    objects = [as_object(resource) for resource in resources]
    check_objects(objects, complete=True)
    names = job_names(objects)
    if len(names) != 1:
        raise InvalidError([f"give exactly one FineTuneJob, not {len(names)}"])
    result = _run(objects, names[0], Path(runs), again=again)
    if check and not result.passed:
        raise NotPassedError(result)
    return result


def _run(objects: Sequence[Object], name: str, runs: Path, *, again: bool) -> Result:
    with _opened(runs, name) as laptop:
        earlier = laptop.apply([project_of(objects, Path.cwd())], again=again).get(name)
        if earlier and earlier.has_ended and earlier.changed_inputs:
            raise NotStartedError(
                f"job {name} ended before these inputs were changed: {', '.join(earlier.changed_inputs)}. "
                "Give the job another name, or start over with again=True, which deletes the old run."
            )
        try:
            with _view() as view:
                laptop.run_until_rest(view.show_jobs)
        except KeyboardInterrupt:
            laptop.interrupt()  # saves a checkpoint
            raise
        report = laptop.report_file(name)
        return Result(
            name=name,
            status=read_status(laptop.job(name)),
            report=report if report.exists() else None,
            status_file=laptop.status_file(name),
        )


@contextmanager
def _opened(runs: Path, name: str) -> Iterator[Laptop]:
    try:
        with Laptop(runs, [name]) as laptop:
            yield laptop
    except (RefusedError, RootInUseError, ClusterError) as error:
        # The messages name the options of `tunegate run`.
        text = str(error).replace("--again", "again=True").replace("--runs", "runs")
        raise NotStartedError(text) from error


@contextmanager
def _view() -> Iterator[LiveView | NotebookView]:
    console = Console()
    if console.is_jupyter:
        yield NotebookView()
    else:
        with LiveView(console, TUNEGATE) as view:
            yield view
