"""gate/result.json: what the gate role writes, and publish role and report read without loading PyTorch."""

from tunegate_api.contract import Evaluation
from tunegate_api.judging.verdict import VerdictState
from tunegate_api.meta import Sha256, StatusModel
from tunegate_api.v1alpha1.evalgate import Generation


class GateVerdict(StatusModel):
    """What one gate, or the task metrics, say of the artifact."""

    name: str
    """The gate's name, or ``taskMetrics``."""
    state: VerdictState
    message: str
    dry_run: bool = False
    """Recorded, without a say in the verdict."""


class GateRoleResult(StatusModel):
    """What was judged, how and what was measured, what that says.

    Operator and publish role compute the verdict again from the evaluations.
    """

    stage: str
    step: int
    artifact: Sha256
    """The digest in the artifact's manifest."""
    weights: Sha256
    """The digest of the checkpoint's weights, as its evaluation names it."""
    device: str
    """``cpu``, or the GPU as its driver calls it."""
    dtype: str
    """The type that the base model's weights were loaded in, or all weights of a whole model."""
    quantization: str | None = None
    """How the base model below an adapter was held."""
    generation: dict[str, Generation]
    """How the outputs of each set were generated, by its name in the evaluations."""
    openings: dict[str, int] = {}
    """How many final gates on the volume have opened each test set, this one included, by the set's name."""
    evaluations: list[Evaluation]
    verdicts: list[GateVerdict]
    verdict: VerdictState
    """The worst of all but dry runs."""
