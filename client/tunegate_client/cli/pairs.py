"""The commands `tunegate pairs`: completions of prompts become preference pairs."""

from pathlib import Path
from typing import Any

import click

from tunegate_client.cli import exit_codes
from tunegate_client.cli.lazy import LazyGroup
from tunegate_client.places.client import ClientError

_CLI = "tunegate_client.cli"
COMMANDS = {"sample": f"{_CLI}.pairs_sample", "rank": f"{_CLI}.pairs_rank", "build": f"{_CLI}.pairs_build"}
CANDIDATES = click.argument("candidates", type=click.Path(exists=True, dir_okay=False, path_type=Path))
OUTPUT = click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE"
)


class _Pairs(LazyGroup):
    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Its errors end it with their message, and Ctrl-C ends it silently."""
        try:
            return super().invoke(ctx)
        except ClientError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise SystemExit(exit_codes.INTERRUPTED) from None


@click.group(cls=_Pairs, lazy=COMMANDS)
def pairs() -> None:
    """Make preference pairs from completions that people rank.

    \b
      tunegate pairs sample --model MODEL --prompts prompts.jsonl -o candidates.jsonl
      tunegate pairs rank candidates.jsonl -o ana.jsonl                 rank them, best first
      tunegate pairs build candidates.jsonl ana.jsonl -o pairs.jsonl    turn rankings into pairs
    """
