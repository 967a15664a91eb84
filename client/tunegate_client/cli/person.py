"""The name of the person who runs a command."""

import getpass

import click


def user_name(advice: str) -> str:
    """Return the name of the user of the operating system. Raises ClickException with ``advice`` if the user
    has no name, such as the user of a container without an entry in /etc/passwd."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise click.ClickException(f"the user of this process has no name: {advice}") from None
