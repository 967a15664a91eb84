"""Shell completion of `tunegate`, and of `kubectl tunegate` by kubectl's own completion."""

import click
from click.shell_completion import ShellComplete, get_completion_class

_NO_FILES, _FILES = 4, 0
"""Directives of kubectl's completion protocol: whether the shell also completes names of files."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    It completes commands, options and the names of jobs.

    \b
      bash    eval "$(tunegate completion bash)"       in ~/.bashrc
      zsh     eval "$(tunegate completion zsh)"        in ~/.zshrc
      fish    tunegate completion fish | source        in ~/.config/fish/config.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"click has no completion for {shell}")
    click.echo(found(ctx.find_root().command, {}, "tunegate", "_TUNEGATE_COMPLETE").source())


def kubectl_completions(command: click.Command, arguments: list[str]) -> list[str]:
    """Return the lines that a program called ``kubectl_complete-NAME`` prints for kubectl: one for each
    completion of the last argument, and a directive."""
    *complete, incomplete = arguments or [""]
    items = ShellComplete(command, {}, command.name or "", "").get_completions(complete, incomplete)
    lines = [
        f"{item.value}\t{item.help}" if item.help else item.value for item in items if item.type == "plain"
    ]
    has_files = any(item.type in ("file", "dir") for item in items)
    return [*lines, f":{_FILES if has_files else _NO_FILES}"]
