"""The types for memory and cost in status: the estimated memory and the measured time of each stage."""

from typing import Annotated

from pydantic import Field

from tunegate_api.meta import Decimal, StatusModel


class StageMemory(StatusModel):
    """Estimated memory that the tensors of a stage need on one GPU, or in host memory without GPUs."""

    stage: str
    """Name of the stage."""
    total: Annotated[str, Field(max_length=32)]
    """Peak memory during an optimizer step or an evaluation."""
    parts: Annotated[str, Field(max_length=256)]
    """The total as a sum of parts, such as weights, optimizer and activations."""
    needed: Annotated[str, Field(max_length=32)] | None = None
    """Memory that one GPU must have, including the reserve that is kept free. Absent if the stage trains
    without GPUs."""


class StageCost(StatusModel):
    """Measured cost of a stage so far, over all its attempts."""

    stage: str
    """Name of the stage."""
    steps: int
    """Number of optimizer steps that were computed. A step that was repeated after an interruption counts
    twice."""
    tokens: int
    """Number of tokens that were trained on, including prompts."""
    training_seconds: Decimal
    """Seconds spent in optimizer steps."""
    evaluation_seconds: Decimal
    """Seconds spent evaluating the starting model and the checkpoints."""
    tokens_per_second: Decimal | None = None
    """Training throughput, without evaluations."""
    peak_gpu_memory: Annotated[str, Field(max_length=32)] | None = None
    """Peak memory of tensors on the first GPU, including evaluations."""
    peak_process_memory: Annotated[str, Field(max_length=32)] | None = None
    """Peak resident memory of the training process with rank 0, including Python and its libraries. Only set
    if the stage trains without GPUs."""


class Cost(StatusModel):
    """Measured cost of the job so far. See `gpuSeconds` for GPU time, and `stop` for the time that a stop of
    training saved."""

    training_seconds: Decimal
    """Seconds spent in optimizer steps, over all stages."""
    evaluation_seconds: Decimal
    """Seconds spent in evaluations, over all stages and the final gate."""
    evaluation_share: Decimal | None = None
    """Evaluation time divided by the sum of training and evaluation time, 0 to 1."""
    stages: Annotated[list[StageCost], Field(max_length=8)] = []
    """Cost of each stage that trained."""
