"""The commands `tunegate gate`."""

import click

from tunegate_client.cli.lazy import LazyGroup

COMMANDS = {
    "run": "tunegate_client.cli.gate_run",
    "error-rate": "tunegate_client.cli.gate_error_rate",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def gate() -> None:
    """Judge a model by gates without a job, and measure how often gates are wrong.

    \b
      tunegate gate run gates/ --model ./model --base ./base --junit gate.xml
                                         judge a model, for CI pipelines
      tunegate gate error-rate orders     measure the gates of a job that has run on this machine
    """
