"""The cleanup role: what a finished job left on the volume goes, and what its verdict rests on stays.

Kept in the job's folder: ``report.html``, ``evals/`` and ``gate/`` (every case with its output), the JSON
files of ``data/`` (what was found wrong, and digests), ``tracking/`` (runs of an offline tracker), and
``model/`` where it passed. Base models are shared by jobs, and stay too.
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from tunegate_api.contract import Outcome
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.files import DONE

logger = logging.getLogger(__name__)


def run(context: Context) -> Outcome:
    """Remove all but what is kept. ``context.options.digest`` is that of the model that passed, if one did.

    Doing it again changes nothing, so an interrupted cleanup goes on. Raises OSError if something can't be
    removed.
    """
    paths = context.paths
    kept = {paths.report, paths.evals, paths.gate, paths.data, paths.tracking}
    kept |= {paths.model} if context.options.digest else set()
    for path in _found(context.workspace / paths.job):
        if paths.job / path.name not in kept:
            _remove(path)
    for path in _found(context.workspace / paths.data):
        if path.suffix != ".json":
            _remove(path)
    return Outcome.COMPLETED


def _found(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir()) if folder.is_dir() else ()


def _remove(path: Path) -> None:
    logger.info("removing %s", path.name)
    if path.is_dir() and not path.is_symlink():
        (path / DONE).unlink(missing_ok=True)  # first, so that what a crash leaves is no model
        shutil.rmtree(path)
    else:
        path.unlink()
