"""Commands that only read manifests: validate, plan."""

from pathlib import Path

import click
from rich.console import Console

from tunegate_client.cli import exit_codes
from tunegate_client.cli.place import RUNS
from tunegate_client.cli.plan_view import plan_text, plan_view
from tunegate_client.laptop.manifests import jobs_of, read_project
from tunegate_client.laptop.plan import ForecastError, forecast
from tunegate_client.manifest_checks import validate as validate_manifests
from tunegate_client.manifests import Diagnostic, ManifestError, load_manifests

PATHS = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE_OR_FOLDER…"
)


@click.command()
@PATHS
def validate(paths: tuple[Path, ...]) -> None:
    """Check manifests and report every mistake with its line.

    Nothing is run. Exit codes: 0 no mistakes, 2 mistakes.
    """
    count = print_diagnostics(paths)
    if count:
        raise SystemExit(exit_codes.USAGE)
    click.echo("no mistakes found")


@click.command()
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
    if print_diagnostics(paths, complete=False):
        raise SystemExit(exit_codes.USAGE)
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
    raise SystemExit(exit_codes.FAILED if refused else 0)


def print_diagnostics(paths: tuple[Path, ...], *, complete: bool = True) -> int:
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
