"""The base model's folder, shared by all jobs on a volume: checked before it is loaded."""

import logging
import time
from pathlib import Path

from tunegate_api.contract import Plan, Workspace
from tunegate_trainer.errors import SourceNotFoundError, StorageError
from tunegate_trainer.evaluate.baselines import EVALUATIONS
from tunegate_trainer.files import is_complete, verify
from tunegate_trainer.model import base_folder

logger = logging.getLogger(__name__)


def verified_base(workspace: Path, plan: Plan) -> Path:
    """Where the base model lies, with every file as the data role left it. Once a role: each file is hashed.

    Raises :class:`SourceNotFoundError` if it is not there or was never completed, :class:`StorageError` if it
    is damaged: a run on other weights than the plan's would look like any other.
    """
    folder = base_folder(workspace, plan)
    name = Workspace.base_model(plan.model.digest)
    hint = (
        f"remove the folder {name} from the volume and start the job anew: its data Job puts the model there"
    )
    if not is_complete(folder):
        raise SourceNotFoundError(f"the base model in {name} was never completed", hint)
    start = time.monotonic()
    problems = verify(folder, beside=(EVALUATIONS,))
    if problems:
        raise StorageError(f"the base model in {name} is damaged: {'; '.join(problems)}", hint)
    logger.info("base model: every file has its digest, checked in %.1f s", time.monotonic() - start)
    return folder
