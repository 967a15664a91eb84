"""What ``tunegate plan`` and ``tunegate check`` print, as the trainer computes it without a GPU."""

from tunegate_api.memory.shapes import Memory, ModelShape
from tunegate_api.meta import StatusModel
from tunegate_api.plan import DataPlan, StagePlan
from tunegate_api.v1alpha1.data_status import DataCheckResult
from tunegate_api.v1alpha1.finetunejob_status import Failure


class ModelForecast(StatusModel):
    """What a :class:`Forecast` contains about the model."""

    uri: str
    parameters: int
    shape: ModelShape | None = None


class Forecast(StatusModel):
    """The part of a plan that is known without a GPU. ``tunegate plan`` prints it."""

    model: ModelForecast
    data: DataPlan | None = None
    """None if rows, golden sets or the tokenizer are not available. In this case, each stage has 0 steps and
    0 tokens, and its largest pass is one example of the maximum length."""
    stages: list[StagePlan] = []
    judging: Memory | None = None
    """Estimated memory of the final gate, see :class:`tunegate_api.plan.Plan`."""
    notes: list[str] = []
    """Which parts of the plan are not known, and why."""
    failure: Failure | None = None
    """Why the job would fail before training. None if no reason is known."""


class CheckFinding(StatusModel):
    """A finding of a data check, as in data/report.json."""

    check: str
    result: str
    """``Refused``, ``Warned``, or ``Passed`` if the finding is within the limit of the check."""
    message: str
    count: int
    share: str | None = None
    """The measured value that was compared with the limit. None if the check has no limit."""
    examples: list[str] = []
    remedy: str = ""


class CheckedData(StatusModel):
    """The result of ``tunegate check``."""

    rows: int | None = None
    """The number of rows in the file. None if the rows could not be read."""
    shape: str | None = None
    """The recognized shape of the rows, such as Alpaca."""
    results: list[DataCheckResult] = []
    """The results of all checks that ran."""
    findings: list[CheckFinding] = []
    failure: Failure | None = None
    """Why a job with this data would fail before training. None if it would not."""
