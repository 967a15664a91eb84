"""Verify the base model of a stage before it is loaded.

The base of a stage is the job's base model, which all jobs on a volume share, or the merged result of an
earlier stage.
"""

import logging
import time
from pathlib import Path

from tunegate_api.contract.plan import Plan
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import Sha256
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError
from tunegate_trainer.process.files import is_complete, refuse_additional, refuse_unreadable, verify

logger = logging.getLogger(__name__)


def verified_base(workspace: Path, plan: Plan) -> Path:
    """Verify the base model of the plan, and return its folder. Raises the errors of
    :func:`verified_model`."""
    return verified_model(workspace, plan.model.digest)


def verified_model(workspace: Path, digest: Sha256) -> Path:
    """Verify the resolved model with this digest, and return its folder. Call it once per role: it hashes
    every file.

    Raises :class:`SourceNotFoundError` if the model does not exist or is incomplete, and
    :class:`StorageError` if a file of the model is damaged or cannot be read, or if there are additional
    files.
    """
    name = Workspace.base_model(digest)
    folder = workspace / name
    if not folder.is_dir():
        raise SourceNotFoundError(
            f"the base model is missing: the storage volume has no {name}",
            "check whether the volume was emptied after the data Job had stored the model there",
        )
    hint = "create the job again: its data Job fetches the model again"
    if not is_complete(folder):
        raise SourceNotFoundError(f"the base model in {name} is incomplete", hint)
    start = time.monotonic()
    problems = verify(folder)
    refuse_unreadable(f"the base model in {name}", problems)
    refuse_additional(f"the base model in {name}", problems)
    if problems:
        raise StorageError(f"the base model in {name} is damaged: {'; '.join(problems)}", hint)
    logger.info("base model: verified the digest of every file in %.1f s", time.monotonic() - start)
    return folder


def merged_base(context: Context, stage: str) -> Path | None:
    """Verify the merged model that is the base of a stage, and return its folder.

    Returns None if the base is the job's base model. Raises :class:`StorageError` if the merged model does
    not exist, is damaged or cannot be read.
    """
    based_on = context.plan.based_on(stage)
    if based_on.starts_from is None:
        return None
    folder = context.workspace / context.paths.merged(based_on.name)
    name = f"the model that stage {based_on.name} started from"
    problems = verify(folder) if is_complete(folder) else ["the model is incomplete"]
    refuse_unreadable(name, problems)
    if problems:
        raise StorageError(
            f"{name} is damaged: {'; '.join(problems)}",
            "files on the volume were changed or lost: create the job again",
        )
    return folder
