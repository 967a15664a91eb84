"""Records of the models that were downloaded to this volume, so that no model is downloaded twice."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import ModelLicense
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import Sha256, StatusModel
from tunegate_trainer.process.files import (
    is_complete,
    refuse_additional,
    refuse_unreadable,
    verify,
    write_model,
)

logger = logging.getLogger(__name__)


class DownloadRecord(StatusModel):
    """The record of a downloaded model."""

    uri: str
    pin: str
    """The commit or digest of the source, or else a digest of the list of its files."""
    origin: str
    """What decided which servers the files came from, see :func:`tunegate_trainer.fetch.origin.origin`."""
    digest: Sha256
    """The digest of the model, see :class:`tunegate_api.contract.plan.ModelPlan`."""
    license: ModelLicense | None = None


@dataclass(frozen=True)
class Download:
    """A source at one version. Jobs share a downloaded model only if all fields are equal."""

    uri: str
    pin: str
    origin: str

    def file(self, workspace: Path) -> Path:
        """Return the file with the record of this download."""
        return workspace / Workspace.source(sha256_text(f"{self.uri}\n{self.pin}\n{self.origin}"))


def downloaded_model(workspace: Path, download: Download) -> tuple[Path, ModelLicense | None] | None:
    """Return the folder and the license of the model if it was already downloaded.

    Returns None if there is no valid record of a download, or if the model is missing or damaged. Raises the
    errors of :func:`is_intact`.
    """
    try:
        record = DownloadRecord.model_validate_json(download.file(workspace).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    folder = workspace / Workspace.base_model(record.digest)
    if Download(record.uri, record.pin, record.origin) != download or not is_intact(folder):
        return None
    logger.info("%s is already on the volume", download.uri)
    return folder, record.license


def is_intact(folder: Path) -> bool:
    """Return whether a model exists and every file matches its manifest. Nothing is removed, because other
    jobs may be reading the model.

    Raises :class:`StorageError` if a file cannot be read, or if there are additional files.
    """
    if not is_complete(folder):
        return False
    name, problems = str(Workspace.base_model(folder.name)), verify(folder)
    refuse_unreadable(name, problems)
    refuse_additional(name, problems)
    if problems:
        logger.warning("%s is damaged: %s", name, "; ".join(problems))
    return not problems


def record_download(
    workspace: Path, download: Download, digest: Sha256, license: ModelLicense | None = None
) -> None:
    """Record a downloaded model. Call it when the model is complete at ``models/<digest>``."""
    record = DownloadRecord(**asdict(download), digest=digest, license=license)
    write_model(download.file(workspace), record)
