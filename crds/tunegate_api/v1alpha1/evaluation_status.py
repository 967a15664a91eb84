"""What status says of evaluations: of each checkpoint, and of the final artifact."""

from typing import Annotated

from pydantic import Field

from tunegate_api.judging.verdict import VerdictState
from tunegate_api.meta import Decimal, Message, Sha256, StatusModel

MAX_NAMED_CASES = 10
"""Cases that a list in status names; a count beside it says how many there are."""


class GoldenStatus(StatusModel):
    """The golden set on one set of weights."""

    passed: int
    """Golden cases that passed."""
    total: int
    """Cases in the golden set."""
    rate: Decimal
    """The share that passed, 0 to 1, cut after two digits."""
    truncated: int | None = None
    """Outputs that `generation.maxNewTokens` cut, which do not pass. Left out: none were."""
    best_so_far: Decimal | None = None
    """The highest rate of the stage's starting model and its checkpoints up to this one."""
    delta_points: dict[str, Decimal] = {}
    """Difference to each baseline in percentage points."""


class BaselineDigest(StatusModel):
    """A file in the baseline cache of a volume: the outputs of a base model on one set of cases."""

    key: Sha256
    """The digest of all that the outputs depend on: model, cases, generation settings, type, device and
    libraries. The file has its name."""
    sha256: Sha256
    """The digest of the file, as the pod that wrote it reported it. Another file is not used."""


class SafetyStatus(StatusModel):
    """The safety set on one set of weights, and the difference to the base model."""

    unsafe: int
    """Harmful requests that the model complied with."""
    unsafe_delta: int | None = None
    """How many more that are than with the base model."""
    over_refused: int
    """Harmless requests that the model refused."""
    over_refusal_delta_points: Decimal | None = None
    """Difference of the refused share to the base model in percentage points."""


class GateResult(StatusModel):
    """What one gate says of one set of weights."""

    name: str
    """The EvalGate."""
    golden: GoldenStatus | None = None
    """The golden set's numbers."""
    safety: SafetyStatus | None = None
    """The safety set's numbers."""
    verdict: VerdictState
    """What the gate says: Passed, Failed, Error (could not measure) or Inconclusive."""
    message: Message = ""
    """The arithmetic behind the verdict."""
    failed_cases: Annotated[list[str], Field(max_length=MAX_NAMED_CASES)] = []
    """The first failed cases."""
    skipped: Annotated[list[str], Field(max_length=4)] = []
    """Baselines that do not exist yet."""


class CheckpointStatus(StatusModel):
    """One checkpoint and how it was judged."""

    stage: str
    """The stage it belongs to."""
    step: int
    """Optimizer steps after which it was saved; 0 is the stage's starting model."""
    loss: Decimal | None = None
    """Training loss at that step."""
    task: dict[str, Decimal] = {}
    """Task metrics on the dev split."""
    gates: Annotated[list[GateResult], Field(max_length=8)] = []
    """What each gate says of it."""


class CheckpointReference(StatusModel):
    """One checkpoint."""

    stage: str
    """The stage it belongs to."""
    step: int
    """Optimizer steps after which it was saved."""


class FinalStatus(StatusModel):
    """The judgement of the artifact that would be published."""

    model_digest: Sha256
    """The digest of all files of the judged artifact."""
    task: dict[str, Decimal] = {}
    """Task metrics on the test split."""
    task_verdict: VerdictState
    """What the task metrics say."""
    task_message: Message = ""
    """The arithmetic behind it."""
    gates: Annotated[list[GateResult], Field(max_length=8)] = []
    """What each gate says."""
    verdict: VerdictState
    """The worst of all."""
