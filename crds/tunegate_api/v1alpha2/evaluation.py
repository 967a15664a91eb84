"""The types for how a FineTuneJob evaluates its checkpoints and its final model."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.shares import CountOrShare

STEPS = CountOrShare("steps", least=1)


class BatchSettings(ApiModel):
    """How the prompts of an evaluation are divided into batches, and in which data type a model is
    evaluated."""

    batch_size: Annotated[int, Field(ge=1, le=4096, examples=[16])] = 32
    """Number of prompts in a batch. It is the same for all models and all gates, because greedy outputs can
    differ between batch sizes."""
    batching: Literal["Fixed", "Continuous"] = "Fixed"
    """How prompts are batched. Fixed: a batch runs until all of its prompts are answered, so that an
    evaluation can be repeated. Continuous: on a GPU, each answered prompt is replaced by the next prompt, so
    that at most `batchSize` prompts are in progress. This is faster if answers differ in length, but if two
    tokens are almost equally likely, each evaluation may choose another one. Continuous is treated as Fixed
    on a CPU, for gates with `generation.samples`, for sharded stages, for full fine-tuning that is evaluated
    in bfloat16 (see `precision`), if the longest prompt and `maxNewTokens` of the gate exceed the context of
    the model (or the length at which longrope changes), and for models with which transformers cannot
    generate in this way, such as models with recurrent layers."""
    precision: Literal["Auto", "Float32"] = "Auto"
    """Data type in which a stage of full fine-tuning evaluates its starting model and its checkpoints on a
    GPU. Their weights are float32. Auto: bfloat16, as in training, which is faster. Float32: the data type of
    the weights. The field has no effect on other evaluations: a base model with an adapter is evaluated in
    the data type of its stage, and the final artifact in the data type in which it is stored."""


class EvaluationSettings(BatchSettings):
    """How often checkpoints are evaluated, and in which batches outputs are generated for all gates and
    held-out rows."""

    every: Annotated[int | str, STEPS, Field(examples=[100])] = "20%"
    """Optimizer steps between two checkpoints, each of which is saved and evaluated: a share of the steps of
    a stage, or a number of steps. The last step of a stage is always a checkpoint."""
