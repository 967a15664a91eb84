"""The models below a stage's weights, checked before they are loaded: the job's, which all jobs on a volume
share, or the merged model that an earlier stage left."""

import logging
import time
from pathlib import Path

from tunegate_api.plan import Plan
from tunegate_api.workspace import Workspace
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError
from tunegate_trainer.process.files import is_complete, refuse_unreadable, verify

logger = logging.getLogger(__name__)

EVALUATIONS = "evals"
"""Where a base model's evaluations lie in its folder, beside what belongs to the model."""


def verified_base(workspace: Path, plan: Plan) -> Path:
    """Where the base model lies, with every file as the data role left it. Once a role: each file is hashed.

    Raises :class:`SourceNotFoundError` if it is not there or was never completed, :class:`StorageError` if it
    cannot be read or is damaged: a run on other weights than the plan's would look like any other.
    """
    folder = _base_folder(workspace, plan)
    name = Workspace.base_model(plan.model.digest)
    hint = (
        f"remove the folder {name} from the volume and create the job again: its data Job fetches the model"
    )
    if not is_complete(folder):
        raise SourceNotFoundError(f"the base model in {name} is incomplete", hint)
    start = time.monotonic()
    problems = verify(folder, beside=(EVALUATIONS,))
    refuse_unreadable(f"the base model in {name}", problems)
    if problems:
        raise StorageError(f"the base model in {name} is damaged: {'; '.join(problems)}", hint)
    logger.info("base model: verified the digest of every file in %.1f s", time.monotonic() - start)
    return folder


def merged_base(context: Context, stage: str) -> Path | None:
    """The merged model below a stage's weights, with every file as it was made; None where that is the job's
    model.

    Raises :class:`StorageError` if it is not there, cannot be read or is damaged.
    """
    based_on = context.plan.based_on(stage)
    if based_on.starts_from is None:
        return None
    folder = context.workspace / context.paths.merged(based_on.name)
    name = f"the model that stage {based_on.name} started from"
    problems = verify(folder) if is_complete(folder) else ["it is incomplete"]
    refuse_unreadable(name, problems)
    if problems:
        raise StorageError(
            f"{name} is damaged: {'; '.join(problems)}",
            "files on the volume were changed or lost: create the job again",
        )
    return folder


def _base_folder(workspace: Path, plan: Plan) -> Path:
    """Where the base model lies. Raises :class:`SourceNotFoundError` if it does not."""
    folder = workspace / Workspace.base_model(plan.model.digest)
    if not folder.is_dir():
        raise SourceNotFoundError(
            f"the workspace has no {Workspace.base_model(plan.model.digest)}",
            "the data Job puts the model there: was the volume emptied?",
        )
    return folder
