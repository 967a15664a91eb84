"""A group of commands whose modules are imported when a command is used. The modules of some commands take a
second to import."""

from collections.abc import Mapping
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click


class LazyGroup(click.Group):
    """A click group. ``lazy`` has the module of each command, in the order of the help text. In its module,
    the command has its own name, with _ for -, and with _ at the end if this is a keyword of Python."""

    def __init__(self, *args: Any, lazy: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in self._lazy:
            return None
        name = cmd_name.replace("-", "_")
        attribute = f"{name}_" if iskeyword(name) else name
        command: click.Command = getattr(import_module(self._lazy[cmd_name]), attribute)
        return command
