"""The types for evaluation results in status: of each checkpoint, and of the final artifact."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import Decimal, Message, Sha256, StatusModel, Time
from tunegate_api.verdict.outcomes import VerdictState

MAX_NAMED_CASES = 10
"""Maximum number of case ids in a list in status. Further ids are left out."""


class GoldenStatus(StatusModel):
    """Results of one model or checkpoint on the golden set."""

    passed: int
    """Number of golden cases that passed."""
    total: int
    """Number of cases in the golden set."""
    rate: Decimal
    """Pass rate, 0 to 1, truncated to two digits."""
    sealed_passed: int | None = None
    """Number of sealed golden cases that passed. It is part of `passed`. Only set for the final model."""
    sealed_total: int | None = None
    """Number of sealed golden cases. Checkpoints are evaluated on the other cases. A rate of the sealed cases
    that is far below that of the others shows that the selection among checkpoints fits the golden set."""
    truncated: int | None = None
    """Number of outputs that `generation.maxNewTokens` or the context of the model truncated, and of which it
    is not known whether a continuation would have passed. They do not pass. Outputs of advisory cases are not
    counted. Absent if there are none."""
    best_so_far: Decimal | None = None
    """Highest pass rate of the stage up to this checkpoint, with that of its starting model. Only set for a
    checkpoint."""
    delta_points: dict[str, Decimal] = {}
    """Maps the name of each baseline to the pass rate of the model minus that of the baseline, in percentage
    points."""


class BaselineDigest(StatusModel):
    """A file in the baseline cache of a volume: the outputs of a base model on one set of cases."""

    key: Sha256
    """Name of the file without its extension. It is the digest of everything that the outputs depend on: the
    model, cases, generation settings, data type, device and library versions."""
    sha256: Sha256
    """Digest of the file, as reported by the pod that wrote it. A file with another digest is not used."""


class SafetyStatus(StatusModel):
    """Results of a model or checkpoint on the safety set, compared with the base model."""

    unsafe: int
    """Number of harmful requests to which the model gave an unsafe answer."""
    unsafe_delta: int | None = None
    """`unsafe` minus the same number for the base model."""
    unsafe_total: int | None = None
    """Number of harmful requests in the safety set."""
    over_refused: int
    """Number of harmless requests that the model refused."""
    harmless_total: int | None = None
    """Number of harmless requests in the safety set."""
    over_refusal_delta_points: Decimal | None = None
    """Refusal rate of harmless requests minus that rate of the base model, in percentage points."""
    newly_unsafe: Annotated[list[str] | None, Field(max_length=MAX_NAMED_CASES)] = None
    """Ids of the first harmful requests that the base model refused, but not the model, at most 10. Absent if
    there are none."""
    newly_refused: Annotated[list[str] | None, Field(max_length=MAX_NAMED_CASES)] = None
    """Ids of the first harmless requests that the model refused, but not the base model, at most 10. Absent
    if there are none."""

    @property
    def unsafe_text(self) -> str:
        """The number of harmful requests that were not refused, such as ``4/128``."""
        return _fraction(self.unsafe, self.unsafe_total)

    @property
    def over_refused_text(self) -> str:
        """The number of harmless requests that were refused, such as ``0/128``."""
        return _fraction(self.over_refused, self.harmless_total)

    @property
    def text(self) -> str:
        """Both numbers, such as ``unsafe 4/128, over-refused 0/128``."""
        return f"unsafe {self.unsafe_text}, over-refused {self.over_refused_text}"


def _fraction(count: int, total: int | None) -> str:
    return str(count) if total is None else f"{count}/{total}"


class GateResult(StatusModel):
    """Result of one gate for one model or checkpoint."""

    name: str
    """Name of the EvalGate."""
    golden: GoldenStatus | None = None
    """Results on the golden set."""
    safety: SafetyStatus | None = None
    """Results on the safety set. Absent if the gate has none, and for checkpoints that are not evaluated on
    it."""
    verdict: VerdictState
    """Verdict of the gate: Passed, Failed, Error (the model could not be measured) or Inconclusive."""
    message: Message = ""
    """The arithmetic behind the verdict."""
    dry_run: bool | None = None
    """True if the gate was in a dry run when the job started: the verdict blocks nothing. Absent
    otherwise."""
    failed_cases: Annotated[list[str], Field(max_length=MAX_NAMED_CASES)] = []
    """Ids of the first failed cases, at most 10."""
    skipped: Annotated[list[str], Field(max_length=4)] = []
    """Baselines that were not compared: they do not exist yet, or only the final model is compared with
    them."""


class CheckpointStatus(StatusModel):
    """Evaluation of one checkpoint, or of the starting model of a stage."""

    stage: str
    """Stage that saved the checkpoint."""
    step: int
    """Optimizer step at which the checkpoint was saved. 0 is the starting model of the stage."""
    loss: Decimal | None = None
    """Training loss at that step."""
    task: dict[str, Decimal] = {}
    """Task metrics on the dev split."""
    gates: Annotated[list[GateResult], Field(max_length=8)] = []
    """Result of each gate."""
    time: Time | None = None
    """Time at which the evaluation ended, by the clock of its pod."""


class CheckpointReference(StatusModel):
    """Identifies a checkpoint."""

    stage: str
    """Stage that saved the checkpoint."""
    step: int
    """Optimizer step at which the checkpoint was saved."""


class TaskInterval(StatusModel):
    """Confidence interval of a task metric."""

    low: Decimal
    """Lower bound of the 95 % confidence interval."""
    high: Decimal
    """Upper bound of the 95 % confidence interval."""


class FinalStatus(StatusModel):
    """Evaluation of the artifact to publish, by the final gate."""

    model_digest: Sha256
    """Digest of all files of the artifact."""
    task: dict[str, Decimal] = {}
    """Task metrics on the test split."""
    task_intervals: dict[str, TaskInterval] | None = None
    """Wilson score intervals of the task metrics that are a share of the held-out rows. Verdicts do not
    depend on them. Absent if there are none."""
    task_verdict: VerdictState
    """Verdict of the task metrics."""
    task_message: Message = ""
    """The arithmetic behind the verdict of the task metrics."""
    gates: Annotated[list[GateResult], Field(max_length=8)] = []
    """Result of each gate."""
    verdict: VerdictState
    """The worst verdict of the task metrics and of the gates that are not in a dry run."""
    verdict_digest: Sha256 | None = None
    """Digest of the verdict: of the artifact, the gates, the outcomes, and the rules that are not met. A
    person's decision about the verdict names it, so the decision cannot apply to another verdict."""

    @property
    def dry_runs(self) -> list[str]:
        """The names of the gates in a dry run."""
        return [gate.name for gate in self.gates if gate.dry_run]

    @property
    def is_unenforced(self) -> bool:
        """Whether all gates are in a dry run, so that only the task metrics were enforced."""
        return bool(self.gates) and len(self.dry_runs) == len(self.gates)


class PersonDecision(StatusModel):
    """A person's decision about a stop of training, or about the final verdict."""

    action: Literal["continue", "discard", "approve", "override", "reject"]
    """The decision. continue: train on after a stop. discard: fail the stopped job. approve: publish a model
    that passed. override: publish a model that did not pass. reject: publish nothing and fail the job."""
    about: Annotated[str, Field(max_length=128)]
    """What the decision is about: the id of the stop, or the digest of the verdict. So it cannot apply to
    another one."""
    by: Message | None = None
    """Name of the person, for a decision about the verdict: on a cluster, the user name that the API server
    authenticated."""
    reason: Message
    """Reason given by the person."""
    stage: str | None = None
    """Stage that was stopped. Absent for a decision about the verdict."""
    step: int | None = None
    """Optimizer step of the stop. Absent for a decision about the verdict."""
    time: Time
    """Time at which the operator recorded the decision."""
