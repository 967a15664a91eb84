"""The command `tunegate run`, and the commands that run a job on this machine after a decision."""

import errno
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from tunegate_api.v1alpha2.reasons import Phase
from tunegate_client.cli import exit_codes
from tunegate_client.cli.display import earlier_note, job_view, tracking_line, utc_now
from tunegate_client.cli.live import LiveView
from tunegate_client.cli.manifests import PATHS, print_diagnostics
from tunegate_client.cli.person import user_name
from tunegate_client.cli.place import RUNS, Place, short
from tunegate_client.laptop.cluster import RootInUseError
from tunegate_client.laptop.manifests import RefusedError, job_names, read_project
from tunegate_client.laptop.run import REFRESH_SECONDS, EarlierRun, Laptop
from tunegate_client.laptop.status import read_status
from tunegate_client.places.caller import Caller
from tunegate_client.places.client import verdict_to_decide
from tunegate_operator.decisions import (
    ReasonTooLongError,
    is_at_rest,
    stop_decision,
    verdict_decision,
)
from tunegate_operator.engine.cluster import ClusterError, Object
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION, VERDICT_ANNOTATIONS

_NO_OBJECT = (
    "job {name} cannot be {what}: the runs folder has the job's status file, but not the job itself; run the "
    "job again with `tunegate run`"
)


@click.command()
@PATHS
@RUNS
@click.option(
    "--again",
    is_flag=True,
    help="Delete the earlier runs of these jobs and start over. Also replace each immutable ConfigMap whose "
    "content changed, and each EvalGate whose golden set changed together with its records. Refused if "
    "another job uses the ConfigMap or EvalGate.",
)
def run(paths: tuple[Path, ...], runs: Path, again: bool) -> None:
    """Run manifests on this machine, without a cluster.

    \b
    A folder stands for all manifests in it. The command creates files in the folder RUNS:
      RUNS/NAME/status.yaml    the FineTuneJob with its status
      RUNS/NAME/report.html    the report
      RUNS/volumes/CLAIM/      what pvc://CLAIM/… refers to

    Ctrl-C saves a checkpoint and stops; run the same command again to resume from the checkpoint. Other jobs
    in RUNS are not changed. A job that has ended runs again only with --again.

    \b
    Exit codes: 0 passed, 1 failed, 3 stopped by a gate, 4 suspended by its spec, awaiting a review or an
      approval, 130 interrupted, 2 mistakes in manifests, or the inputs of an ended job changed after its
      start
    """
    if print_diagnostics(paths):
        raise SystemExit(exit_codes.USAGE)
    projects = [read_project(path) for path in paths]
    names = [name for project in projects for name in job_names(project.objects)]
    if not names:
        raise click.UsageError("no FineTuneJob in these manifests")
    with _open(runs, names) as laptop:
        caller = Place.of(click.get_current_context()).caller
        _live(laptop, names, laptop.apply(projects, again=again), caller)


def continue_run(runs: Path, name: str, reason: str, caller: Caller) -> None:
    """Record the decision to continue a stopped job, and run the job."""
    with _open(runs, [name]) as laptop:
        _record_decision(laptop, name, CONTINUE_ANNOTATION, reason)
        _live(laptop, [name], {}, caller)


def review_run(
    runs: Path, name: str, score: Callable[[Callable[[Object], None]], Object | None], caller: Caller
) -> None:
    """Record the scores in the ConfigMap that ``score`` returns, if any are new, and run the job if its
    review is decided. ``score`` gets a function that saves earlier versions of this ConfigMap.

    The folder is locked while a person scores, so that the scores can be recorded in any case.
    """
    with _open(runs, [name]) as laptop:
        scores = score(laptop.put_config_map)
        if scores:
            laptop.put_config_map(scores)
        laptop.step(0)
        status = read_status(laptop.job(name))
        if status.phase is not Phase.AWAITING_REVIEW:
            _live(laptop, [name], {}, caller)
    click.echo(f"saved: {status.message}" if scores else status.message)
    raise SystemExit(exit_codes.of_job(status))


def discard_run(runs: Path, name: str, reason: str) -> None:
    """Record the decision to discard a stopped job, and wait until the job has ended."""
    with _open(runs, [name]) as laptop:
        _record_decision(laptop, name, DISCARD_ANNOTATION, reason)
        while read_status(laptop.job(name)).phase is not Phase.FAILED or not laptop.is_at_rest(name):
            laptop.step(REFRESH_SECONDS)
        tracking = read_status(laptop.job(name)).tracking
    click.echo(f"{name} discarded: {reason}")
    if tracking:
        click.echo(tracking_line(tracking).plain)


def decide_verdict_run(runs: Path, name: str, action: str, reason: str, caller: Caller) -> None:
    """Record a decision about the final verdict of a job by the user of the operating system, and run the job
    until it has ended."""
    person = user_name("set the environment variable USER to your name")
    with _open(runs, [name]) as laptop:
        try:
            digest = verdict_to_decide(laptop.job(name), action, f"the folder {short(runs)}")
        except KeyError:
            raise click.ClickException(_NO_OBJECT.format(name=name, what="decided about")) from None
        laptop.annotate_text(name, VERDICT_ANNOTATIONS[action], verdict_decision(digest, person, reason))
        if action != "reject":
            _live(laptop, [name], {}, caller)
        laptop.run_until_rest(lambda _: None)
        tracking = read_status(laptop.job(name)).tracking
    click.echo(f"{name} rejected: {reason}")
    if tracking:
        click.echo(tracking_line(tracking).plain)


@contextmanager
def _open(runs: Path, names: list[str]) -> Iterator[Laptop]:
    """Open the runs folder for the named jobs. If the folder or a manifest is refused, end the command with a
    one-line error."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Laptop(runs, names) as laptop:
            yield laptop
    except RootInUseError as error:
        raise click.ClickException(
            f"{error}: wait until it ends, or choose another folder with --runs"
        ) from error
    except (RefusedError, ClusterError, ReasonTooLongError) as error:
        raise click.ClickException(str(error)) from error
    except BrokenPipeError:  # the reader of the output has ended; click ends the command silently
        raise
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise  # no file caused it
        raise click.ClickException(f"a file in the folder {short(runs)} cannot be used: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(exit_codes.INTERRUPTED) from None


def _record_decision(laptop: Laptop, name: str, annotation: str, reason: str) -> None:
    """Record a decision about the current stop of a job in the runs folder."""
    try:
        found = read_status(laptop.job(name))
    except KeyError:
        raise click.ClickException(_NO_OBJECT.format(name=name, what="continued or discarded")) from None
    if found.stop is None or found.completion_time:
        raise click.ClickException(f"job {name} is not stopped by a gate: there is nothing to decide")
    laptop.annotate_text(name, annotation, stop_decision(found.stop.id, reason))
    laptop.step(0)


def _live(laptop: Laptop, names: list[str], earlier: Mapping[str, EarlierRun], caller: Caller) -> None:
    """Run and show the named jobs until each waits for a person or has ended. Then end the command with an
    exit code."""
    console, started = Console(), time.monotonic()
    try:
        with LiveView(console, caller) as view:
            laptop.run_until_rest(view.show_jobs)
    except KeyboardInterrupt:
        click.echo("\nsaving a checkpoint… (press Ctrl-C again to exit without saving)", err=True)
        laptop.interrupt()
        if not all(is_at_rest(laptop.job(name)) for name in names):
            click.echo("interrupted; the same command resumes from the last checkpoint", err=True)
            raise SystemExit(exit_codes.INTERRUPTED) from None
    code = _print_results(laptop, names, console, caller)
    click.echo(f"took      {time.monotonic() - started:.0f} s")
    raise SystemExit(exit_codes.worst(code, _print_earlier(earlier)))


def _print_results(laptop: Laptop, names: list[str], console: Console, caller: Caller) -> int:
    """Print each job's result, with the paths of its report, status and, if it failed, log. Returns the most
    severe exit code of the jobs."""
    worst = 0
    for name in names:
        status = read_status(laptop.job(name))
        if not console.is_terminal and (status.final or status.stop or status.failure):
            console.print(job_view(name, status, utc_now(), caller))
        report, log = laptop.report_file(name), laptop.log_file(name)
        if report.exists():
            click.echo(f"report    {short(report)}")
        click.echo(f"status    {short(laptop.status_file(name))}")
        if status.phase is Phase.FAILED and log:
            click.echo(f"log       {short(log)}")
        worst = exit_codes.worst(worst, exit_codes.of_job(status))
    return worst


def _print_earlier(earlier: Mapping[str, EarlierRun]) -> int:
    """Print a note about each job that an earlier command started, if it has ended or its inputs changed
    since. Returns exit_codes.USAGE if inputs of an ended job changed, otherwise 0."""
    for name, before in earlier.items():
        note = earlier_note(name, before.ended_at, before.changed_inputs)
        if note:
            click.echo(note)
    changed_inputs = any(before.has_ended and before.changed_inputs for before in earlier.values())
    return exit_codes.USAGE if changed_inputs else 0
