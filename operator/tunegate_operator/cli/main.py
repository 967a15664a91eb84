"""The ``tunegate`` command."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live

from tunegate_api import __version__
from tunegate_api.v1alpha1.finetunejob_status import Phase
from tunegate_operator.cli.display import PlainLog, earlier_note, job_view, jobs_table, tracking_line, utc_now
from tunegate_operator.cli.plan_view import plan_text, plan_view
from tunegate_operator.clients.client import ClientError
from tunegate_operator.engine.cluster import ClusterError
from tunegate_operator.laptop.cluster import RootInUseError
from tunegate_operator.laptop.manifests import RefusedError, job_names, jobs_of, read_project
from tunegate_operator.laptop.plan import ForecastError, forecast
from tunegate_operator.laptop.run import EarlierRun, Laptop
from tunegate_operator.laptop.status import AT_REST, interrupted_jobs, read_jobs, read_status
from tunegate_operator.manifest_checks import validate as validate_manifests
from tunegate_operator.manifests import Diagnostic, ManifestError, load_manifests
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION

EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED, EXIT_SUSPENDED, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
EXIT_CODES = {Phase.SUCCEEDED: 0, Phase.STOPPED: EXIT_STOPPED, Phase.SUSPENDED: EXIT_SUSPENDED}
SEVERITY = (0, EXIT_SUSPENDED, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED)
"""Exit codes from least to most severe. With several jobs, the command exits with the most severe code."""
REFRESH_SECONDS = 0.25
"""Seconds between two updates of the display."""

PATHS = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE_OR_FOLDER…"
)
DEFAULT_RUNS, RUNS_VARIABLE = "runs", "TUNEGATE_RUNS"
RUNS = click.option(
    "--runs",
    default=DEFAULT_RUNS,
    show_default=True,
    envvar=RUNS_VARIABLE,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for runs, volumes and reports.",
)
NAMESPACE = click.option(
    "--namespace", "-n", help="Namespace of a job that runs on the cluster of your kubeconfig."
)


def _not_blank(_: click.Context, __: click.Parameter, reason: str) -> str:
    if not reason.strip():
        raise click.BadParameter("must not be blank")
    return reason


REASON = click.option(
    "--reason",
    required=True,
    callback=_not_blank,
    help="Reason for the decision, recorded in the job's status.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunegate")
def main() -> None:
    """Fine-tune a model, evaluate every checkpoint, and publish only a model that passed.

    \b
    The same manifests run here and on a cluster:
      tunegate validate examples/quickstart    report every mistake, with its line
      tunegate plan examples/quickstart        estimate what it needs, without training
      tunegate run examples/quickstart         prepare data, train, judge, publish
      tunegate status                          show runs and their results

    A run that a gate stopped waits for your decision: `tunegate continue` or `tunegate discard`.
    """


@main.command()
@PATHS
def validate(paths: tuple[Path, ...]) -> None:
    """Check manifests and report every mistake with its line.

    Nothing is run. Exit codes: 0 no mistakes, 2 mistakes.
    """
    count = _print_diagnostics(paths)
    if count:
        raise SystemExit(EXIT_USAGE)
    click.echo("no mistakes found")


@main.command()
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
    Exit codes: 0 passed, 1 failed, 3 stopped by a gate, 4 suspended by its spec, 130 interrupted,
      2 mistakes in manifests, or the inputs of an ended job changed after its start
    """
    if _print_diagnostics(paths):
        raise SystemExit(EXIT_USAGE)
    projects = [read_project(path) for path in paths]
    names = [name for project in projects for name in job_names(project.objects)]
    if not names:
        raise click.UsageError("no FineTuneJob in these manifests")
    with _open(runs, names) as laptop:
        _live(laptop, names, laptop.apply(projects, again=again))


@main.command()
@PATHS
@RUNS
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)
def plan(paths: tuple[Path, ...], runs: Path, output: str) -> None:
    """Estimate the rows, steps, memory and GPU that jobs need, without training.

    \b
    Makes the same checks as `tunegate run` before training. If data or weights are not on this machine, the
    model's config.json is enough to estimate memory. Leaves no files except a converted model.

    \b
    Exit codes: 0 the job can run, 1 it would be refused, 2 mistakes in manifests
    """
    if _print_diagnostics(paths, complete=False):
        raise SystemExit(EXIT_USAGE)
    jobs = [(project, job) for path in paths for project in [read_project(path)] for job in jobs_of(project)]
    if not jobs:
        raise click.UsageError("no FineTuneJob in these manifests")
    given = [obj for path in paths for obj in read_project(path).objects]
    console, refused = Console(), False
    for project, job in jobs:
        try:
            found = forecast(job, given, project.folder, runs)
        except ForecastError as error:
            raise click.ClickException(str(error)) from error
        refused |= found.failure is not None
        if output == "table":
            console.print(plan_view(job, found))
        else:
            click.echo(plan_text(job, found, output), nl=False)
    raise SystemExit(EXIT_FAILED if refused else 0)


@main.command()
@click.argument("name", required=False)
@RUNS
def status(name: str | None, runs: Path) -> None:
    """Show the runs on this machine, or one job in detail.

    You can use this command while `tunegate run` runs in another terminal.
    """
    console = Console()
    found = read_jobs(runs)
    jobs = {job["metadata"]["name"]: read_status(job) for job in found}
    interrupted = interrupted_jobs(runs, found)
    if name is not None:
        if name not in jobs:
            raise click.ClickException(_no_such_job(name, runs, list(jobs)))
        is_interrupted = name in interrupted
        console.print(
            job_view(name, jobs[name], utc_now(), runs=_runs_option(runs), is_interrupted=is_interrupted)
        )
    elif jobs:
        console.print(jobs_table(list(jobs.items()), interrupted, _runs_option(runs)))
    else:
        click.echo(f"no runs in {runs}: start one with `tunegate run FOLDER`")


@main.command("continue")
@click.argument("name")
@REASON
@NAMESPACE
@RUNS
def continue_(name: str, reason: str, namespace: str | None, runs: Path) -> None:
    """Resume a run that a gate stopped.

    Training resumes from the run's last checkpoint. Later checkpoints are compared with this checkpoint and
    those after it, not with earlier ones.
    """
    if namespace:
        _record_decision_on_cluster(name, namespace, CONTINUE_ANNOTATION, reason)
        return
    _require_job(name, runs)
    with _open(runs, [name]) as laptop:
        _record_decision(laptop, name, CONTINUE_ANNOTATION, reason)
        _live(laptop, [name], {})


@main.command()
@click.argument("name")
@REASON
@NAMESPACE
@RUNS
def discard(name: str, reason: str, namespace: str | None, runs: Path) -> None:
    """End a run that a gate stopped. Its checkpoints stay on the volume."""
    if namespace:
        _record_decision_on_cluster(name, namespace, DISCARD_ANNOTATION, reason)
        return
    _require_job(name, runs)
    with _open(runs, [name]) as laptop:
        _record_decision(laptop, name, DISCARD_ANNOTATION, reason)
        while read_status(laptop.job(name)).phase is not Phase.FAILED or not laptop.is_at_rest(name):
            laptop.step(REFRESH_SECONDS)
        tracking = read_status(laptop.job(name)).tracking
    click.echo(f"{name} discarded: {reason}")
    if tracking:
        click.echo(tracking_line(tracking).plain)


def _print_diagnostics(paths: tuple[Path, ...], *, complete: bool = True) -> int:
    """Print the mistakes and warnings about manifests. Returns the number of mistakes."""
    try:
        found: list[Diagnostic] = validate_manifests(load_manifests(paths), complete=complete)
    except ManifestError as error:
        found = error.diagnostics
    errors = [d for d in found if d.severity == "error"]
    for diagnostic in found:
        click.echo(str(diagnostic), err=True)
    if errors:
        click.echo(f"{len(errors)} mistake{'s' if len(errors) > 1 else ''}", err=True)
    return len(errors)


@contextmanager
def _open(runs: Path, names: list[str]) -> Iterator[Laptop]:
    """Open the runs folder for the named jobs. If the folder or a manifest is refused, end the command with a
    one-line error."""
    signal.signal(signal.SIGTERM, _raise_keyboard_interrupt)
    try:
        with Laptop(runs, names) as laptop:
            yield laptop
    except RootInUseError as error:
        raise click.ClickException(
            f"{error}: wait until it ends, or choose another folder with --runs"
        ) from error
    except (RefusedError, ClusterError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _record_decision(laptop: Laptop, name: str, annotation: str, reason: str) -> None:
    """Record a decision about the current stop of a job in the runs folder."""
    try:
        found = read_status(laptop.job(name))
    except KeyError:
        raise click.ClickException(
            f"job {name} cannot be continued or discarded, because the folder of runs has only its status "
            "file: run the job again with `tunegate run`"
        ) from None
    if found.stop is None or found.completion_time:
        raise click.ClickException(f"job {name} is not stopped by a gate: there is nothing to decide")
    laptop.annotate(name, annotation, {"stop": found.stop.id, "reason": reason})
    laptop.step(0)


def _record_decision_on_cluster(name: str, namespace: str, annotation: str, reason: str) -> None:
    """Record a decision about a job on the cluster, where the operator carries out the decision."""
    kube = import_module("tunegate_operator.clients.kube")  # its imports are slow, so only if needed
    try:
        kube.KubernetesClient.connect(namespace=namespace).decide(name, annotation, reason)
    except ClientError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"Decision recorded. Follow progress with: kubectl get ftj {name} --namespace {namespace} --watch"
    )


def _live(laptop: Laptop, names: list[str], earlier: Mapping[str, EarlierRun]) -> None:
    """Run and show the named jobs until each waits for a person or has ended. Then end the command with an
    exit code."""
    console = Console()
    plain = {name: PlainLog(console, name) for name in names}
    live: Any = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()
    started = time.monotonic()
    try:
        with live:
            while True:
                laptop.step(REFRESH_SECONDS)
                views = {name: read_status(laptop.job(name)) for name in names}
                if console.is_terminal:
                    now = utc_now()
                    jobs = (job_view(n, s, now, runs=_runs_option(laptop.runs)) for n, s in views.items())
                    live.update(Group(*jobs), refresh=True)
                else:
                    for name, job_status in views.items():
                        plain[name].show(job_status)
                if all(laptop.is_at_rest(name) for name in names):
                    break
    except KeyboardInterrupt:
        click.echo("\nsaving a checkpoint… (press Ctrl-C again to exit without saving)", err=True)
        laptop.interrupt()
        if any(read_status(laptop.job(name)).phase not in AT_REST for name in names):
            click.echo("interrupted; the same command resumes from the last checkpoint", err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None
    code = _print_results(laptop, names, console)
    click.echo(f"took      {time.monotonic() - started:.0f} s")
    raise SystemExit(_worst(code, _print_earlier(earlier)))


def _print_results(laptop: Laptop, names: list[str], console: Console) -> int:
    """Print the paths of each job's report, status and log. Returns the most severe exit code of the jobs."""
    worst = 0
    for name in names:
        job_status = read_status(laptop.job(name))
        phase = job_status.phase or Phase.PENDING
        if not console.is_terminal and (job_status.final or job_status.stop or job_status.failure):
            console.print(job_view(name, job_status, utc_now(), runs=_runs_option(laptop.runs)))
        report, log = laptop.report_file(name), laptop.log_file(name)
        if report.exists():
            click.echo(f"report    {_short(report)}")
        click.echo(f"status    {_short(report.with_name('status.yaml'))}")
        if phase is Phase.FAILED and log:
            click.echo(f"log       {_short(log)}")
        worst = _worst(worst, EXIT_CODES.get(phase, EXIT_FAILED))
    return worst


def _worst(*codes: int) -> int:
    return max(codes, key=SEVERITY.index)


def _print_earlier(earlier: Mapping[str, EarlierRun]) -> int:
    """Print a note about each job that an earlier command started, if it has ended or its inputs changed
    since. Returns EXIT_USAGE if inputs of an ended job changed, otherwise 0."""
    for name, before in earlier.items():
        note = earlier_note(name, before.ended_at, before.changed_inputs)
        if note:
            click.echo(note)
    changed_inputs = any(before.has_ended and before.changed_inputs for before in earlier.values())
    return EXIT_USAGE if changed_inputs else 0


def _short(path: Path) -> Path:
    """Return the path relative to the working directory, or unchanged if it is outside of this directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _require_job(name: str, runs: Path) -> None:
    """Raise ClickException if there is no job with this name in the runs folder."""
    names = [job["metadata"]["name"] for job in read_jobs(runs)]
    if name not in names:
        raise click.ClickException(
            f"{_no_such_job(name, runs, names)}; for a job on a cluster, add --namespace"
        )


def _runs_option(runs: Path) -> str:
    """Return the option with which a command uses the folder ``runs``; empty for the default folder."""
    usual = Path(os.environ.get(RUNS_VARIABLE, DEFAULT_RUNS))
    return "" if runs.resolve() == usual.resolve() else f" --runs {shlex.quote(str(_short(runs.resolve())))}"


def _no_such_job(name: str, runs: Path, names: list[str]) -> str:
    return f"there is no job {name} in the folder {runs}; its jobs: {', '.join(names) or 'none'}"


def _raise_keyboard_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
