"""The command that shows jobs and gates in a browser."""

import click

from tunegate_client.cli.place import Place, at_place
from tunegate_client.ui.server import REQUEST_SECONDS, serve

DEFAULT_PORT = 8642


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port on this machine; 0 for any free port.",
)
@at_place
def ui(place: Place, *, port: int) -> None:
    """Show jobs and gates in a browser, until Ctrl-C.

    The pages are read-only, and only this machine can reach them. For the runs of another machine, use an SSH
    tunnel: ssh -L 8642:localhost:8642 HOST tunegate ui
    """
    try:
        serve(
            place.client(seconds=REQUEST_SECONDS),
            place.caller,
            is_cluster=place.runs is None,
            port=port,
            started=lambda address: click.echo(f"open {address} in a browser; Ctrl-C ends the server"),
        )
    except OSError as error:
        raise click.ClickException(
            f"port {port} cannot be used: {error.strerror}; choose another one with --port"
        ) from error
