"""gate/result.json: the gate role writes it; the publish role and the report read it without PyTorch."""

from tunegate_api.contract import Evaluation
from tunegate_api.judging.verdict import VerdictState
from tunegate_api.meta import Sha256, StatusModel
from tunegate_api.v1alpha1.evalgate import Generation


class GateVerdict(StatusModel):
    """The verdict of one gate, or of the task metrics, on the artifact."""

    name: str
    """The gate's name, or ``taskMetrics``."""
    state: VerdictState
    message: str
    dry_run: bool = False
    """Whether the gate is only recorded and does not count for the verdict."""


class GateRoleResult(StatusModel):
    """What was judged, how it was measured, and the verdicts.

    The operator and the publish role compute the verdict again from the evaluations.
    """

    stage: str
    step: int
    artifact: Sha256
    """The digest in the artifact's manifest."""
    weights: Sha256
    """The digest of the checkpoint's weights, as in its evaluation."""
    device: str
    """``cpu``, or the name of the GPU."""
    dtype: str
    """The dtype in which the weights were loaded: those of an adapter's base, or of a whole model."""
    quantization: str | None = None
    """The quantization of an adapter's base model."""
    generation: dict[str, Generation]
    """The generation settings of each set, by the set's name in the evaluations."""
    openings: dict[str, int] = {}
    """How many final gates on the volume have opened each test set, including this one, by the set's name."""
    evaluations: list[Evaluation]
    verdicts: list[GateVerdict]
    verdict: VerdictState
    """The worst verdict of all that are not dry runs."""
