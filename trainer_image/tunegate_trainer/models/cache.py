"""Which models were downloaded to this volume: what was fetched once is not fetched again."""

import logging
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract import sha256_text
from tunegate_api.meta import Sha256, StatusModel
from tunegate_api.plan import ModelLicense
from tunegate_api.workspace import Workspace
from tunegate_trainer.models.base_model import EVALUATIONS
from tunegate_trainer.process.files import is_complete, refuse_unreadable, remove, verify, write_model

logger = logging.getLogger(__name__)


class KnownModel(StatusModel):
    """What a source was when it was downloaded."""

    uri: str
    pin: str
    """A commit or a digest, or a digest over the list of files where the source has neither."""
    digest: Sha256
    """Of the model, see :class:`tunegate_api.plan.ModelPlan`."""
    license: ModelLicense | None = None


def known_model(workspace: Path, uri: str, pin: str) -> tuple[Path, ModelLicense | None] | None:
    """The folder of a model that was downloaded from this source before, with every file as it was, and its
    license. See :func:`is_sound`."""
    try:
        known = KnownModel.model_validate_json(_file(workspace, uri, pin).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    folder = workspace / Workspace.base_model(known.digest)
    if (known.uri, known.pin) != (uri, pin) or not is_sound(folder):
        return None
    logger.info("%s is already on the volume", uri)
    return folder, known.license


def is_sound(folder: Path) -> bool:
    """Whether a model is there with every file as it was. One that is damaged is removed.

    Raises :class:`StorageError` where a file cannot be read now: other jobs may train on it.
    """
    if not is_complete(folder):
        return False
    problems = verify(folder, beside=(EVALUATIONS,))
    refuse_unreadable(str(Workspace.base_model(folder.name)), problems)
    if problems:
        logger.warning("%s is damaged: %s", Workspace.base_model(folder.name), "; ".join(problems))
        remove(folder)  # no job could use it, and with its marker none would replace it
    return not problems


def remember_model(
    workspace: Path, uri: str, pin: str, digest: Sha256, license: ModelLicense | None = None
) -> None:
    """Write down what a source is. Once it has its name, see ``models/<digest>``."""
    known = KnownModel(uri=uri, pin=pin, digest=digest, license=license)
    write_model(_file(workspace, uri, pin), known)


def _file(workspace: Path, uri: str, pin: str) -> Path:
    return workspace / Workspace.source(sha256_text(f"{uri}\n{pin}"))
