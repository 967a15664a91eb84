"""The options that select where jobs are: a runs folder on this machine, or a namespace of a cluster.

A command that uses them runs in both places. ``tunegate`` uses the runs folder, unless an option selects a
cluster. ``kubectl tunegate`` lacks the option ``--runs``, and always uses a cluster.
"""

import os
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tunegate_client.cli import exit_codes
from tunegate_client.places.caller import Caller
from tunegate_client.places.client import Client, ClientError, UnknownNameError

if TYPE_CHECKING:
    from tunegate_client.places.kube import KubernetesClient

PLUGIN = "kubectl tunegate"
DEFAULT_RUNS, RUNS_VARIABLE = "runs", "TUNEGATE_RUNS"
COMPLETION_SECONDS = 3.0
"""How long the completion of a name waits for a cluster."""
RUNS = click.option(
    "--runs",
    default=DEFAULT_RUNS,
    show_default=True,
    envvar=RUNS_VARIABLE,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for runs, volumes and reports.",
)
_CLUSTER_OPTIONS = (
    click.option("--namespace", "-n", help="Namespace on a cluster.  [default: the context's namespace]"),
    click.option("--context", help="Context of the kubeconfig.  [default: the current context]"),
    click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False),
        help="Path of the kubeconfig.  [default: as for kubectl]",
    ),
)
_ON_CLUSTER = ("namespace", "context", "kubeconfig")


@dataclass(frozen=True)
class Place:
    """Where a command finds jobs."""

    runs: Path | None
    """The runs folder; None for a cluster."""
    caller: Caller
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None

    @classmethod
    def of(cls, ctx: click.Context) -> "Place":
        """Return the place that the options of a command, or of the group of ``kubectl tunegate``, select.
        Without the option ``--runs``, it is always a cluster."""
        options = {**ctx.find_root().params, **{name: v for name, v in ctx.params.items() if v is not None}}
        given: dict[str, str | None] = {name: options.get(name) for name in _ON_CLUSTER}
        runs: Path | None = options.get("runs")
        if runs is not None and not any(given.values()):
            return cls(runs, Caller(options=_runs_option(runs)))
        shown = "".join(f" --{name} {shlex.quote(value)}" for name, value in given.items() if value)
        return cls(None, Caller(PLUGIN if runs is None else "tunegate", shown), **given)

    def client(self, seconds: float | None = None) -> Client:
        """Return the client that reads the jobs. ``seconds`` is the timeout of its requests to a cluster, if
        it is not the default. Raises ClientError."""
        if self.runs is None:
            return self.cluster(seconds)
        from tunegate_client.places.runs import RunsClient  # noqa: PLC0415 - not needed for a cluster

        return RunsClient(self.runs)

    def cluster(self, seconds: float | None = None) -> "KubernetesClient":
        """Return the client of a cluster, see :meth:`client`. Raises ClientError."""
        from tunegate_client.places.kube import KubernetesClient  # noqa: PLC0415 - slow to import

        return KubernetesClient.connect(
            kubeconfig=self.kubeconfig,
            context=self.context,
            namespace=self.namespace,
            notice=notice,
            seconds=seconds,
        )


def notice(text: str) -> None:
    """Print a remark that is not part of the command's output."""
    click.echo(text, err=True)


def at_place(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options, and pass the selected :class:`Place` as the first argument. Errors of clients end the
    command with their message, and Ctrl-C ends it silently."""

    def with_place(**arguments: Any) -> None:
        ctx = click.get_current_context()
        _refuse_both(ctx)
        place = Place.of(ctx)
        others = {name: value for name, value in arguments.items() if name not in (*_ON_CLUSTER, "runs")}
        try:
            command(place, **others)
        except UnknownNameError as error:
            hint = "; for a job on a cluster, add --namespace or --context" if place.runs else ""
            raise click.ClickException(f"{error}{hint}") from error
        except ClientError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise SystemExit(exit_codes.INTERRUPTED) from None

    return on_cluster(RUNS(update_wrapper(with_place, command)))


def on_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select a namespace of a cluster."""
    for option in reversed(_CLUSTER_OPTIONS):
        command = option(command)
    return command


def _refuse_both(ctx: click.Context) -> None:
    """Raise UsageError if options select both a runs folder and a cluster."""
    given = [name for name in _ON_CLUSTER if ctx.params.get(name)]
    if given and ctx.get_parameter_source("runs") is ParameterSource.COMMANDLINE:
        raise click.UsageError(
            f"--runs selects a folder on this machine, and --{given[0]} a cluster: use one of them"
        )


def complete_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a job in the selected place. Returns nothing if the place cannot be read soon."""
    found: list[str] = []
    place = Place.of(ctx)

    def read() -> None:
        try:
            jobs = place.client().list_objects("FineTuneJob")
        except ClientError:
            return
        found.extend(job["metadata"]["name"] for job in jobs)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(COMPLETION_SECONDS)
    return [name for name in found if name.startswith(incomplete)]


NAME = click.argument("name", shell_complete=complete_name)


def _runs_option(runs: Path) -> str:
    """Return the option with which a command uses the folder ``runs``; empty for the default folder."""
    usual = Path(os.environ.get(RUNS_VARIABLE, DEFAULT_RUNS))
    return "" if runs.resolve() == usual.resolve() else f" --runs {shlex.quote(str(short(runs.resolve())))}"


def short(path: Path) -> Path:
    """Return a path relative to the working directory, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
