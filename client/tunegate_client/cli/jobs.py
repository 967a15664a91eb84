"""Commands that read jobs in a runs folder or on a cluster: status, logs, events, report."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from tunegate_api.contract.process import Role
from tunegate_api.duration import duration_text
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_client.cli import exit_codes
from tunegate_client.cli.display import JobTable, job_view, jobs_table, utc_now
from tunegate_client.cli.live import LiveView
from tunegate_client.cli.place import NAME, Place, at_place, complete_name, notice, short
from tunegate_client.places.caller import Caller
from tunegate_client.places.client import (
    Client,
    ClientError,
    ClusterUnreachableError,
    sorted_events,
    status_of,
)
from tunegate_client.places.logs import LogSelection, follow_logs, newest_log
from tunegate_client.places.retry import Retry
from tunegate_operator.decisions import is_at_rest
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.events import event_count, event_time
from tunegate_operator.engine.objects import moment

REFRESH_SECONDS = 2.0
"""Seconds between two updates of the table of jobs."""
_COLUMNS = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE")


@click.command()
@click.argument("name", required=False, shell_complete=complete_name)
@click.option("-w", "--watch", is_flag=True, help="Show changes as they happen.")
@at_place
def status(place: Place, *, name: str | None, watch: bool) -> None:
    """Show all jobs, or one job in detail.

    With --watch and a NAME, the command ends when the job has ended, is stopped, held or suspended, or awaits
    a review or an approval. Exit codes: 0 passed, 1 failed or held, 3 stopped by a gate, 4 suspended or
    awaiting a review or an approval. With --watch and no NAME, it ends with Ctrl-C.
    """
    client, console = place.client(), Console()
    if name is None:
        _show_all(client, console, place, watch=watch)
    elif watch:
        raise SystemExit(_watch_one(client, console, place.caller, name))
    else:
        job = client.get("FineTuneJob", name)
        is_interrupted = name in client.interrupted([job])
        console.print(job_view(name, status_of(job), utc_now(), place.caller, is_interrupted=is_interrupted))


@click.command()
@NAME
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines and with the job's next pods.")
@click.option("--role", type=click.Choice([str(role) for role in Role]), help="Only pods of this role.")
@click.option("--stage", help="Only pods of this training stage.")
@click.option(
    "--pod",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Index of the pod of a distributed stage.",
)
@at_place
def logs(place: Place, *, name: str, follow: bool, role: str | None, stage: str | None, pod: int) -> None:
    """Print the log of a job's newest pod.

    With --follow, the logs of the next pods are printed as they start, also after restarts, until the job has
    ended, is stopped, held or suspended, or awaits a review or an approval.
    """
    client, selection = place.client(), LogSelection(Role(role) if role else None, stage, pod)
    lines = follow_logs(client, name, selection, notice) if follow else newest_log(client, name, selection)
    for line in lines:
        click.echo(line)


@click.command()
@NAME
@at_place
def events(place: Place, *, name: str) -> None:
    """List the Events of a job and of its pods, oldest first."""
    client = place.client()
    job = client.get("FineTuneJob", name)
    found = sorted_events(event for obj in (job, *client.list_pods(job)) for event in client.list_events(obj))
    if not found:
        click.echo(f"no Events of FineTuneJob {name} in {client.place}")
        return
    rows = [_COLUMNS, *map(_event_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    for *cells, message in rows:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        click.echo("   ".join((*padded, message)))


@click.command()
@NAME
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; - for standard output.  [default: NAME-report.html, for a job on a cluster]",
)
@at_place
def report(place: Place, *, name: str, output: Path | None) -> None:
    """Get a job's report, also if its pods are gone.

    The report is an HTML page; its path is printed. For a job on a cluster, a small pod reads the page from
    the job's volume, and is deleted afterwards.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the pod is deleted
    client = place.client()
    job = client.get("FineTuneJob", name)
    if place.runs is None:
        notice("reading the report from the job's volume")
    page = client.read_report(job)
    if output == Path("-"):
        click.echo(page, nl=False)
        return
    if place.runs and not output:
        from tunegate_client.laptop.status import report_file  # noqa: PLC0415 - not needed for a cluster

        path = report_file(place.runs, name)
    else:
        path = output or Path(f"{name}-report.html")
        _write(path, page)
    click.echo(f"report    {short(path.absolute())}")


def _show_all(client: Client, console: Console, place: Place, *, watch: bool) -> None:
    if watch:
        with LiveView(console, place.caller) as view:
            for jobs in _updates(client):
                view.show_table(jobs)
        return
    jobs = _read_all(client)
    if jobs.statuses or jobs.unreadable:
        console.print(jobs_table(jobs, place.caller))
    elif place.runs:
        click.echo(f"no runs in {place.runs}: start one with `tunegate run FOLDER`")
    else:
        click.echo(f"no FineTuneJobs in {client.place}")


def _read_all(client: Client) -> JobTable:
    """Return all jobs. A status that cannot be read does not hide the other jobs."""
    jobs = client.list_objects("FineTuneJob")
    statuses, unreadable = dict[str, FineTuneJobStatus](), dict[str, str]()
    for job in jobs:
        try:
            statuses[job["metadata"]["name"]] = status_of(job)
        except ClientError as error:
            unreadable[job["metadata"]["name"]] = str(error)
    return JobTable(statuses, unreadable, client.interrupted(jobs) - set(unreadable))


def _updates(client: Client) -> Iterator[JobTable]:
    """Yield the result of :func:`_read_all` again and again, without an end."""
    retry = Retry(notice)
    while True:
        try:
            yield _read_all(client)
            retry.succeeded()
        except ClusterUnreachableError as error:
            retry.wait(error)
        time.sleep(REFRESH_SECONDS)


def _watch_one(client: Client, console: Console, caller: Caller, name: str) -> int:
    """Show a job until it is at rest or held. Returns the exit code."""
    with LiveView(console, caller) as view:
        for job in client.watch("FineTuneJob", name):
            current, interrupted = status_of(job), client.interrupted([job])
            view.show_jobs({name: current}, interrupted)
            if interrupted or is_at_rest(job) or current.is_held:
                break
        else:
            raise ClientError(f"FineTuneJob {name} in {client.place} was deleted")
    if not console.is_terminal:
        console.print(job_view(name, current, utc_now(), caller, is_interrupted=bool(interrupted)))
    return exit_codes.INTERRUPTED if interrupted else exit_codes.of_job(current)


def _event_row(event: Object) -> tuple[str, ...]:
    time, about = event_time(event), event["involvedObject"]
    age = duration_text((utc_now() - moment(time)).total_seconds()) if time else "unknown"
    return (
        f"{age} ago",
        event.get("type", ""),
        event.get("reason", ""),
        f"{about.get('kind')}/{about.get('name')}",
        str(event_count(event)),
        " ".join(event.get("message", "").split()),
    )


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error}") from error
