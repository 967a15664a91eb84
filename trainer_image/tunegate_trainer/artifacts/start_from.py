"""Store the model of the earlier job that ``model.startFrom`` names on the storage volume, as one folder with
safetensors."""

import hashlib
import logging
import shutil
from pathlib import Path

from tunegate_api.contract.digests import files_digest
from tunegate_api.contract.plan import ModelPlan, StartPlan
from tunegate_api.contract.request import StartRequest
from tunegate_api.contract.workspace import Workspace
from tunegate_trainer.artifacts.build import is_adapter, write_artifact
from tunegate_trainer.fetch.address import volume_folder
from tunegate_trainer.models.resolve import require_bitsandbytes, store, store_model, unreadable_explained
from tunegate_trainer.models.safetensors import count_parameters
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, StorageError
from tunegate_trainer.process.files import is_complete, read_manifest, verify

logger = logging.getLogger(__name__)

MERGE = "merged-1"
"""Part of a merged model's digest. Increase its number when a change to the code makes merging give other
weights."""
_FIELD = "model.startFrom"


def resolve_start(root: Path, workspace: Path, start: StartRequest) -> ModelPlan:
    """Store the artifact of another job at ``models/<digest>`` on the storage volume, unless it is already
    there.

    A whole model is copied. An adapter is merged into its base, as for the artifact form Merged.

    Raises :class:`SourceNotFoundError` if the artifact does not exist, :class:`BadDataError` if it is not the
    artifact that passed that job's gates, :class:`UserError` if permission to read its files is denied, and
    :class:`StorageError` if files of the artifact or of its base are missing or damaged.
    """
    artifact = _artifact(root, start)
    with unreadable_explained(start.uri, artifact, _FIELD):
        _check_artifact(artifact, start)
        merges = is_adapter(artifact)
        if merges:
            target = _merge(root, workspace, start)
        else:
            target = store_model(workspace, start.uri, artifact, shutil.copyfile)
    return ModelPlan(
        uri=start.uri,
        digest=target.name,
        parameters=count_parameters(target),
        start_from=StartPlan(job=start.job, uid=start.uid, digest=start.digest, merged=merges),
    )


def _artifact(root: Path, start: StartRequest) -> Path:
    """Return the folder of the artifact, which the operator names, not the spec."""
    return volume_folder(root, start.claim) / Workspace(start.uid).model


def _check_artifact(artifact: Path, start: StartRequest) -> None:
    hint = (
        f"the folder of that model was removed or changed on the volume: run {start.job} again under another "
        "name, and start from the new job"
    )
    what = f"{_FIELD}: the model of FineTuneJob {start.job}"
    if not is_complete(artifact):
        raise SourceNotFoundError(f"{what} is not at {start.uri}", hint)
    problems = verify(artifact)
    if problems:
        raise StorageError(f"{what} is damaged: {'; '.join(problems)}", hint)
    found = files_digest(read_manifest(artifact).files)
    if found != start.digest:
        raise BadDataError(
            f"{what} has digest {found} at {start.uri}, but the model that passed the gates has digest "
            f"{start.digest}",
            hint,
        )


def _merge(root: Path, workspace: Path, start: StartRequest) -> Path:
    """Merge the adapter of the earlier job into its base, and return the model's folder in the workspace."""
    trained = start.trained
    if trained.quantization:
        require_bitsandbytes(f"{_FIELD}: the adapter of FineTuneJob {start.job} has an NF4 base")
    name = Workspace.base_model(start.base_digest)
    base = volume_folder(root, start.claim) / name
    problems = verify(base) if is_complete(base) else ["the folder does not exist"]
    if problems:
        raise StorageError(
            f"{_FIELD}: the base model of FineTuneJob {start.job}, {name} on claim {start.claim}, cannot be "
            f"used: {'; '.join(problems)}",
            f"create a job with the model.uri of {start.job} and this claim: its data Job stores the base "
            "model there again",
        )
    how = f"{MERGE} {start.digest} {start.base_digest} {trained.quantization} {trained.dtype}"
    digest = hashlib.sha256(how.encode()).hexdigest()

    def fill(folder: Path) -> None:
        logger.info("merging the adapter of FineTuneJob %s into its base", start.job)
        artifact = _artifact(root, start)
        # The chat template of the artifact may have arguments, that of the base has none.
        write_artifact(artifact, base, folder, whole=True, trained=trained, tokenizer=artifact)

    return store(workspace, digest, fill)
