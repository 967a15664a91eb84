"""Run the trainer for a command of ``tunegate`` that needs a model or data, with one way to report errors.

The command's files are below ``$TUNEGATE_ROOT``. If the work fails, the reason is in :data:`FAILURE_FILE`, as
in the termination message of a role. An unexpected error is only on stderr.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tunegate_api.contract.process import FAILURE_FILE, ROOT_VARIABLE, ExitCode
from tunegate_trainer.process.errors import known_error
from tunegate_trainer.process.files import write_model

Show = Callable[[str], None]
"""Writes a line to stdout at once."""


def run_command(work: Callable[[Path, Show], None], *, level: int = logging.WARNING) -> int:
    """Do the work, and return the exit code.

    ``work`` gets the folder with the command's files, and a function that shows a line. Only this function
    writes to stdout, because libraries may print. ``level`` is that of the log on stderr.
    """
    logging.basicConfig(level=level, stream=sys.stderr)
    root = Path(os.environ[ROOT_VARIABLE])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)
        try:
            work(root, lambda line: print(line, file=output, flush=True))
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            write_model(root / FAILURE_FILE, known.failure)
            return known.exit_code
    return ExitCode.OK
