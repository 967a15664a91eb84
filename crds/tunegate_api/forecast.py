"""What ``tunegate plan`` prints, as the trainer computes it before a GPU is requested."""

from tunegate_api.memory.shapes import Memory, ModelShape
from tunegate_api.meta import StatusModel
from tunegate_api.plan import DataPlan, StagePlan
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
