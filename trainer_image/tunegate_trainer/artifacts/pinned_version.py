"""Find the versions that gates pin in ``compareWith``, which are evaluated again."""

import logging
from pathlib import Path

from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.compared import VERSION_FIELD, PinnedVersion
from tunegate_trainer.artifacts.build import is_adapter
from tunegate_trainer.artifacts.evidence import evaluated_digest, read_model_evidence
from tunegate_trainer.fetch.sources import locate
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, UserError
from tunegate_trainer.process.files import is_complete

logger = logging.getLogger(__name__)

RUN_ITS_BASE = "run a job that starts from that base model on this volume first"


def other_base(digest: Sha256) -> str:
    """Return the problem of an adapter whose base model ``digest`` is not on the job's volume."""
    folder = Workspace.base_model(digest)
    return f"it is an adapter of another base model, which is not on the job's volume: {folder}"


def check_pinned_versions(context: Context, base_model: Sha256) -> None:
    """Check that the versions that the job's gates pin exist, and that the base model of a version that is an
    adapter is on the volume. ``base_model`` is the digest of the job's base model. A gate in a dry run only
    causes a warning.

    Raises the errors of :func:`version_folder`, and those of
    :func:`~tunegate_trainer.artifacts.evidence.read_model_evidence`.
    """
    for gate in context.request.final_gates:
        try:
            _check_version(context, gate, base_model)
        except (SourceNotFoundError, UserError) as error:
            if not gate.spec.dry_run:
                raise
            logger.warning("%s", error)


def _check_version(context: Context, gate: GateRequest, base_model: Sha256) -> None:
    pinned = gate.spec.pinned_version
    if pinned is None:
        return
    field = f"EvalGate {gate.name}: {VERSION_FIELD}"
    folder = version_folder(context.root, gate.name, pinned)
    try:
        digest = read_model_evidence(folder).base_model_digest
    except UserError as error:
        raise UserError(f"{field}.uri: {error}", f"name another version in {VERSION_FIELD}") from error
    is_there = digest == base_model or is_complete(context.workspace / Workspace.base_model(digest))
    if is_adapter(folder) and not is_there:
        raise SourceNotFoundError(f"{field}.uri: {other_base(digest)}", RUN_ITS_BASE)


def version_folder(root: Path, gate: str, pinned: PinnedVersion) -> Path:
    """Return the folder of the version that the gate called ``gate`` pins. The content of its files is not
    verified.

    Raises :class:`SourceNotFoundError` if it is not a complete version, and :class:`UserError` if it has
    another digest.
    """
    field = f"EvalGate {gate}: {VERSION_FIELD}"
    folder = locate(root, pinned.uri, f"{field}.uri")
    if not is_complete(folder):
        raise SourceNotFoundError(
            f"{field}.uri: there is no published version at {pinned.uri}",
            "give the address and the digest in status.published of the job that published the version",
        )
    digest = evaluated_digest(folder)
    if digest != pinned.digest:
        raise UserError(
            f"{field}.digest is {pinned.digest}, but the version at {pinned.uri} has {digest}",
            "if another version was pinned on purpose, give its address and its digest",
        )
    return folder
