"""The commands `tunegate gate`."""

import click

from tunegate_operator.cli.lazy import LazyGroup

COMMANDS = {"calibrate": "tunegate_operator.cli.gate_calibrate"}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def gate() -> None:
    """Measure how often gates are wrong.

    \b
      tunegate gate calibrate orders     measure the gates of a job that has run on this machine
    """
