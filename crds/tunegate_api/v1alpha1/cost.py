"""What status says of a job's cost, and before that of what it will need."""

from typing import Annotated

from pydantic import Field

from tunegate_api.meta import Decimal, StatusModel


class StageMemory(StatusModel):
    """What a stage needs of one GPU's memory, or of a CPU's, by an estimate of tensor bytes."""

    stage: str
    """Which stage."""
    total: Annotated[str, Field(max_length=32)]
    """At the moment of a step, or an evaluation, at which most is held."""
    parts: Annotated[str, Field(max_length=256)]
    """The sum, part by part."""
    needed: Annotated[str, Field(max_length=32)] | None = None
    """The memory of a GPU that holds it, with what is kept free. None where a CPU trains."""


class StageCost(StatusModel):
    """What training a stage took so far, measured, in all its attempts."""

    stage: str
    """Which stage."""
    steps: int
    """Optimizer steps that were computed; those that an interruption lost count twice."""
    tokens: int
    """Tokens trained on, prompts included."""
    training_seconds: Decimal
    """Time in optimizer steps."""
    evaluation_seconds: Decimal
    """Time in evaluations of its starting model and checkpoints."""
    tokens_per_second: Decimal | None = None
    """Training speed, evaluations apart."""
    peak_gpu_memory: Annotated[str, Field(max_length=32)] | None = None
    """The most that tensors held of one GPU's memory, evaluations included."""
    peak_process_memory: Annotated[str, Field(max_length=32)] | None = None
    """Where a CPU trains: the largest resident size of the training process, Python and libraries
    included."""


class Cost(StatusModel):
    """What a job took so far, measured. GPU time is in `gpuSeconds`, and what a stop saved in `stop`."""

    training_seconds: Decimal
    """Time in optimizer steps, of all stages."""
    evaluation_seconds: Decimal
    """Time in evaluations, of all stages and of the final gate."""
    evaluation_share: Decimal | None = None
    """The share of evaluations in both, 0 to 1."""
    stages: Annotated[list[StageCost], Field(max_length=8)] = []
    """Each stage that trained."""
