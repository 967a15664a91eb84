"""The anchor of a gate: a published version that stays a baseline."""

from collections.abc import Sequence
from pathlib import Path

from tunegate_api.contract import GateRequest
from tunegate_api.v1alpha1.evalgate import Anchor
from tunegate_trainer.fetch.sources import locate
from tunegate_trainer.process.errors import SourceNotFoundError, UserError
from tunegate_trainer.process.files import is_complete, read_manifest


def check_anchors(root: Path, gates: Sequence[GateRequest]) -> None:
    """Check that the anchors of ``gates`` exist. Raises the errors of :func:`anchor_folder`."""
    for gate in gates:
        if gate.spec.anchor:
            anchor_folder(root, gate.name, gate.spec.anchor)


def anchor_folder(root: Path, gate: str, anchor: Anchor) -> Path:
    """Return the folder of the anchor of the gate called ``gate``. Its files are not verified.

    Raises :class:`SourceNotFoundError` if it is not a complete version, and :class:`UserError` if it has
    another digest.
    """
    field = f"EvalGate {gate}: spec.anchor"
    folder = locate(root, anchor.uri, f"{field}.uri")
    if not is_complete(folder):
        raise SourceNotFoundError(
            f"{field}.uri: there is no published version at {anchor.uri}",
            "give the address and the digest in status.published of the job that published the version",
        )
    digest = read_manifest(folder).digest
    if digest != anchor.digest:
        raise UserError(
            f"{field}.digest is {anchor.digest}, but the version at {anchor.uri} has {digest}",
            "if the anchor was moved on purpose, give its address and its digest",
        )
    return folder
