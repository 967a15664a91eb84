"""The commands `tunegate gate`."""

import click

from tunegate_client.cli.lazy import LazyGroup

COMMANDS = {
    "run": "tunegate_client.cli.gate_run",
    "calibrate": "tunegate_client.cli.gate_calibrate",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def gate() -> None:
    """Judge a model by gates without a job, and measure how often gates are wrong.

    \b
      tunegate gate run gates/ --model ./model --base ./base --junit gate.xml
                                         judge a model, for CI pipelines
      tunegate gate calibrate orders     measure the gates of a job that has run on this machine
    """
