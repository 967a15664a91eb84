"""Run the ``tunegate`` command in a pseudo-terminal, and press keys."""

import os
import pty
import select
import subprocess
import time
from collections.abc import Sequence

from support.command import Command

SECONDS = 60


def run_in_terminal(command: Command, arguments: Sequence[str], shown: str, keys: str) -> str:
    """Run the command, and press all keys once the text ``shown`` is on the screen. Returns what the command
    printed."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*command.program(), *arguments],
        cwd=command.folder,
        env={**os.environ, "COLUMNS": "120", "TERM": "xterm", **command.environment},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    output, deadline, is_pressed = "", time.monotonic() + SECONDS, False
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        while time.monotonic() < deadline:
            ready, _, _ = select.select([terminal], [], [], 0.1)
            try:
                output += terminal.read(65536).decode(errors="replace") if ready else ""
            except OSError:  # the process has closed the terminal
                break
            if shown in output and not is_pressed:
                os.write(leader, keys.encode())
                is_pressed = True
        else:
            process.kill()
    process.wait()
    return output
