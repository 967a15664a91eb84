"""The training runs of a FineTuneJob."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, Name
from tunegate_api.v1alpha1.fields import Share, ShortName
from tunegate_api.v1alpha1.values import Between


class Adapter(ApiModel):
    """Which small set of weights to train beside the frozen base. A stage without one trains all weights."""

    type: Literal["LoRA"] | None = None
    """LoRA: a new low-rank adapter. Either this or `from` is given."""
    from_: Annotated[Literal["Previous"] | None, Field(alias="from")] = None
    """Previous: go on training the adapter of the stage before, in its shape. Instead of `type`."""
    r: Annotated[int | None, Field(ge=1, le=1024, examples=[16])] = None
    """Rank of the update. Left out: 16, or 64 to learn from more than 10,000 rows."""
    alpha: Annotated[int | None, Field(ge=1, le=4096, examples=[32])] = None
    """Scale of the update: it is multiplied by alpha / r. Left out: twice `r`."""
    dropout: Annotated[Decimal | None, Between(least=0, below=1), Field(examples=["0.05"])] = None
    """The share of the adapter's inputs that is dropped in training, at least 0 and below 1. DPO drops none.
    Left out: 0."""
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]] | None,
        Field(min_length=1, max_length=64, examples=[["q_proj", "v_proj"]]),
    ] = None
    """Names of the layers that get an adapter, or all-linear alone. Left out: all-linear. Of a multimodal
    model these are layers of its language model; name one that only its vision tower has to adapt that as
    well."""


TRAINER_ARGS = ("adam_beta1", "adam_beta2", "adam_epsilon", "optim")
"""Arguments of TRL's trainers that may be set as they are: those that our losses and resuming can bear."""
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adafactor")
ARG_PATTERN = rf"^({'|'.join(OPTIMIZERS)}|0(\.[0-9]+)?|[0-9](\.[0-9]+)?[eE]-[0-9]{{1,2}})$"
"""An optimizer, or a number of at least 0 and below 1."""
FIELDS_FOR_ARGS = {
    "beta": "training.beta",
    "gradient_accumulation_steps": "training.batchSize",
    "learning_rate": "training.learningRate",
    "loss_type": "training.loss",
    "lr_scheduler_type": "training.scheduler",
    "max_grad_norm": "training.maxGradNorm",
    "max_length": "training.maxLength",
    "max_seq_length": "training.maxLength",
    "max_steps": "training.maxSteps",
    "num_train_epochs": "training.epochs",
    "per_device_train_batch_size": "training.batchSize",
    "seed": "training.seed",
    "warmup_ratio": "training.warmupFraction",
    "warmup_steps": "training.warmupFraction",
    "weight_decay": "training.weightDecay",
}
"""Arguments of TRL's trainers that have fields of their own."""


class Training(ApiModel):
    """How to train. What is left out is resolved by method and stands in the plan."""

    epochs: Annotated[int | None, Field(ge=1, le=1000, examples=[3])] = None
    """Passes over the training rows. Left out, unless `maxSteps` is given: 5 below 500 rows, 3 up to 10,000,
    2 up to 50,000, else 1; of DPO 1."""
    max_steps: Annotated[int | None, Field(ge=1, le=10_000_000, examples=[500])] = None
    """Optimizer steps, instead of `epochs`."""
    learning_rate: Annotated[Decimal | None, Between(above=0, most=1), Field(examples=["2e-4"])] = None
    """Peak learning rate. Left out, for an adapter: 5e-4 below 1 billion parameters, 2e-4 below 20, else
    1e-4; for all weights: 5e-5 below 1 billion, 2e-5 below 4, else 1e-5; for DPO: 5e-6 of an adapter, 5e-7
    of all weights."""
    scheduler: Literal["linear", "cosine", "constant"] | None = None
    """How the learning rate moves after warm-up. Left out: linear, down to 0."""
    warmup_fraction: Annotated[Share | None, Field(examples=["0.05"])] = None
    """The share of steps over which the learning rate rises from 0, 0 to 1. Left out: 0.03."""
    weight_decay: Annotated[Share | None, Field(examples=["0.01"])] = None
    """AdamW's weight decay. Left out: 0."""
    max_grad_norm: Annotated[Decimal | None, Between(above=0), Field(examples=["1"])] = None
    """Longer gradients are scaled down to this norm. Left out: 1."""
    batch_size: Annotated[int | None, Field(ge=1, le=65536, examples=[32])] = None
    """Examples per optimizer step, of DPO pairs, whatever they are packed or split into. Left out: 16,
    or the next multiple of the number of processes that train together."""
    max_length: Annotated[int | None, Field(ge=8, le=1_048_576, examples=[2048])] = None
    """Longest example in tokens. Longer ones are left out and counted, at most `data.maxTooLong` of the rows.
    Left out: 2048, or what the model can take."""
    seed: Annotated[int | None, Field(ge=0, le=2**31 - 1, examples=[7])] = None
    """Decides the order of rows and the adapter's first weights. Left out: 42."""
    beta: Annotated[Decimal | None, Between(above=0), Field(examples=["0.05"])] = None
    """DPO alone: how closely to stay to the reference model; higher is closer. Left out: 0.1."""
    loss: Literal["sigmoid", "ipo"] | None = None
    """DPO alone: sigmoid is the loss of the paper, ipo one that stops pushing pairs apart. Left out:
    sigmoid."""
    trainer_args: Annotated[
        dict[str, Annotated[str, Field(pattern=ARG_PATTERN, max_length=32)]] | None,
        Field(max_length=8, examples=[{"adam_beta2": "0.95"}]),
    ] = None
    """Arguments of TRL's trainer by their own names: optim (adamw_torch, adamw_torch_fused, or adafactor,
    which needs less memory, and trains all weights on one GPU alone), adam_beta1, adam_beta2, adam_epsilon.
    Left out: adamw_torch, 0.9, 0.999 and 1e-8."""


class GateReference(ApiModel):
    """A gate that must be passed."""

    name: Annotated[Name, Field(examples=["invoice-golden"])]
    """An EvalGate of this namespace."""


class Stage(ApiModel):
    """One training run. Stages run in order; each starts from the best passing checkpoint of the one
    before."""

    name: Annotated[ShortName, Field(examples=["sft"])]
    """Names the stage in status, files and child Jobs, at most 20 characters."""
    method: Literal["SFT", "DPO"]
    """SFT: learn from completions. DPO: learn from preferences."""
    adapter: Adapter | None = None
    """The adapter to train. Left out: all weights are trained."""
    quantization: Literal["NF4"] | None = None
    """NF4: hold the frozen base in 4 bits (QLoRA). Left out: 16 or 32 bits, or with `from: Previous` as the
    stage before."""
    training: Training = Training()
    """How to train."""
    gates: Annotated[
        list[GateReference] | None, Field(min_length=1, max_length=8, examples=[[{"name": "invoice-format"}]])
    ] = None
    """Gates for this stage's checkpoints. Left out: the job's."""


class EvaluateEvery(ApiModel):
    """How often a checkpoint is saved and evaluated: a share of the stage, or a number of steps."""

    fraction: Annotated[Decimal | None, Between(least=Fraction(1, 100), most=1), Field(examples=["0.25"])] = (
        None
    )
    """The share of the stage's steps between checkpoints, 0.01 to 1. Left out: 0.2, unless `steps` is
    given."""
    steps: Annotated[int | None, Field(ge=1, le=10_000_000, examples=[100])] = None
    """Optimizer steps between checkpoints."""
