"""The plugin ``kubectl tunegate``: the commands of ``tunegate`` for jobs on a cluster."""

import copy
import sys

import click

from tunegate_api import __version__
from tunegate_client.cli.completion import kubectl_completions
from tunegate_client.cli.lazy import LazyGroup
from tunegate_client.cli.main import ON_JOBS
from tunegate_client.cli.place import PLUGIN, on_cluster


class _PluginGroup(LazyGroup):
    """The commands of the plugin: those of ``tunegate`` that are about jobs, without the option
    ``--runs``."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            return None
        command = copy.copy(command)
        command.params = [param for param in command.params if param.name != "runs"]
        return command


@click.group(cls=_PluginGroup, lazy=ON_JOBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PLUGIN)
@on_cluster
def plugin(**_: str | None) -> None:
    """Show and change fine-tuning jobs on a cluster.

    \b
      kubectl tunegate status                  show the jobs of a namespace and their results
      kubectl tunegate status NAME -w          show one job while it changes
      kubectl tunegate logs NAME -f            print the log of the pod that works on a job
      kubectl tunegate report NAME             get the report, an HTML page

    The options --namespace, --context and --kubeconfig are those of kubectl. Each command has them, too.
    """


def main() -> None:
    """Run ``kubectl tunegate``."""
    plugin(prog_name=PLUGIN)


def complete() -> None:
    """Run ``kubectl_complete-tunegate``, which kubectl calls to complete a command line of the plugin."""
    for line in kubectl_completions(plugin, sys.argv[1:]):
        click.echo(line)


if __name__ == "__main__":
    main()
