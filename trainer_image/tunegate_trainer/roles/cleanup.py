"""The cleanup role: remove a finished job's files from the volume, but keep the evidence of its verdict. Of a
job that was deleted, it removes all files.

Kept in the job's folder: ``report.html``, ``evals/`` and ``gate/`` (every case with its output), the JSON
files of ``data/`` (findings and digests), ``tracking/`` (runs of an offline tracker), and ``model/`` if the
model passed its gates. Base models are kept too, because jobs share them. The folder of a deleted job stays,
empty, because it is the only folder that the pod mounts.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tunegate_api.contract.process import Outcome
from tunegate_api.contract.workspace import Workspace
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.files import DONE

logger = logging.getLogger(__name__)


def run(context: Context) -> Outcome:
    """Remove the job's files that are not kept. ``context.options.digest`` is set if the model passed its
    gates. The pod of a deleted job has no request, so ``context.options.deleted_job`` names the job.

    An interrupted cleanup can be retried. Raises OSError if a file cannot be removed.
    """
    if context.options.deleted_job:
        for path in _found(context.workspace / Workspace(context.options.deleted_job).job):
            _remove(path)
        return Outcome.COMPLETED
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
        (path / DONE).unlink(missing_ok=True)  # first, so that a crash leaves no folder that looks complete
        while path.exists():
            with suppress(FileNotFoundError):  # whoever delivers a report removes it from the outbox
                shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
