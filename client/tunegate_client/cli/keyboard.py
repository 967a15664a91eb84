"""Read single keys from a terminal."""

import os
import select
import termios
import tty
from types import TracebackType
from typing import Self

import click

_ESCAPE = "\x1b"


class Keyboard:
    """Reads keys without echo, as a context manager, which restores the terminal.

    The terminal keeps its mode from key to key, so a key that is pressed before the program reads it is not
    lost. Ctrl-C raises KeyboardInterrupt.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before = termios.tcgetattr(descriptor)

    def __enter__(self) -> Self:
        tty.setcbreak(self._descriptor, termios.TCSADRAIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def read(self) -> str:
        """Return the next key; empty for a key that is no character, such as an arrow. Raises EOFError if the
        terminal is closed."""
        try:
            key = os.read(self._descriptor, 1).decode(errors="replace")
            if key == _ESCAPE:
                while select.select([self._descriptor], [], [], 0)[0] and os.read(self._descriptor, 1):
                    pass
        except OSError as error:
            raise EOFError from error
        if not key:
            raise EOFError
        return "" if key == _ESCAPE else key

    def ask(self, text: str) -> str:
        """Return a line of text. Empty if the user only presses the enter key."""
        self.__exit__(None, None, None)
        try:
            return str(click.prompt(text, default="", show_default=False))
        finally:
            self.__enter__()
