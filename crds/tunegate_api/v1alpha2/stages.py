"""The types for the training stages of a FineTuneJob."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, Name
from tunegate_api.v1alpha2.fields import ShortName
from tunegate_api.v1alpha2.shares import Percent
from tunegate_api.v1alpha2.values import Between


class Adapter(ApiModel):
    """The adapter to train, a small set of weights beside the frozen base model."""

    type: Literal["LoRA"] | None = None
    """Type of a new adapter. LoRA: a low-rank adapter. Either `type` or `from` must be set."""
    from_: Annotated[Literal["Previous"] | None, Field(alias="from")] = None
    """Source of an existing adapter. Previous: continue to train the adapter of the previous stage, with the
    same rank and target modules. Either `type` or `from` must be set."""
    r: Annotated[int | None, Field(ge=1, le=1024, examples=[16])] = None
    """Rank of the LoRA matrices. Defaults to 16, or 64 for more than 10,000 rows."""
    alpha: Annotated[int | None, Field(ge=1, le=4096, examples=[32])] = None
    """Scale of the adapter, whose output is multiplied by alpha / r. Defaults to twice `r`."""
    dropout: Annotated[Decimal | None, Between(least=0, below=1), Field(examples=["0.05"])] = None
    """Dropout probability of the adapter's inputs in training, at least 0 and less than 1. Not allowed for
    DPO. Defaults to 0."""
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]] | None,
        Field(min_length=1, max_length=64, examples=[["q_proj", "v_proj"]]),
    ] = None
    """Names of the layers that get an adapter, or only all-linear. Defaults to all-linear. In a
    multimodal model, only layers of the language model get an adapter, unless you name a layer that only the
    vision tower has. In a mixture of experts, all-linear leaves out routers and routed experts: name the
    tensors of experts, for example experts.gate_up_proj, to train them too."""


TRAINER_ARGS = ("adam_beta1", "adam_beta2", "adam_epsilon", "optim")
"""Arguments of TRL's trainers that a user may set. They are compatible with Tunegate's losses and with
resuming."""
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adafactor")
ARG_PATTERN = rf"^({'|'.join(OPTIMIZERS)}|0(\.[0-9]+)?|[0-9](\.[0-9]+)?[eE]-[0-9]{{1,2}})$"
"""Matches an optimizer, or a number of at least 0 and less than 1."""
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
"""Maps arguments of TRL's trainers to the API fields to use instead."""


class Training(ApiModel):
    """Training parameters. Defaults depend on the method. The plan records all values."""

    epochs: Annotated[int | None, Field(ge=1, le=1000, examples=[3])] = None
    """Number of passes over the training rows. Not allowed together with `maxSteps`. Defaults to a value that
    depends on the method and the number of rows. DPO: 1. SFT: 5 below 500 rows, 3 up to 10,000, 2 up to
    50,000, and 1 above."""
    max_steps: Annotated[int | None, Field(ge=1, le=10_000_000, examples=[500])] = None
    """Number of optimizer steps. Not allowed together with `epochs`."""
    learning_rate: Annotated[Decimal | None, Between(above=0, most=1), Field(examples=["2e-4"])] = None
    """Peak learning rate. Defaults to a value that depends on the method and the number of parameters. SFT of
    an adapter: 5e-4 below 1 billion parameters, 2e-4 below 20 billion, and 1e-4 above. SFT of all weights:
    5e-5 below 1 billion, 2e-5 below 4 billion, and 1e-5 above. DPO: 5e-6 for an adapter, and 5e-7 for all
    weights."""
    scheduler: Literal["linear", "cosine", "constant"] | None = None
    """Learning rate schedule after warmup. Defaults to linear, which decreases to 0."""
    warmup_fraction: Annotated[Percent | None, Field(examples=["5%"])] = None
    """Share of optimizer steps over which the learning rate increases from 0 to its peak. Defaults to 3%."""
    weight_decay: Annotated[Decimal | None, Between(least=0, most=1), Field(examples=["0.01"])] = None
    """Weight decay of the AdamW optimizer. Defaults to 0."""
    max_grad_norm: Annotated[Decimal | None, Between(above=0), Field(examples=["1"])] = None
    """Maximum norm of the gradient. A gradient with a larger norm is scaled down to this norm. Defaults to
    1."""
    batch_size: Annotated[int | None, Field(ge=1, le=65536, examples=[32])] = None
    """Number of examples per optimizer step (for DPO, pairs), in total over all GPUs and forward passes.
    Defaults to 16, rounded up to a multiple of the world size."""
    max_length: Annotated[int | None, Field(ge=8, le=1_048_576, examples=[2048])] = None
    """Maximum length of an example in tokens. Longer examples are dropped, at most the share
    `data.maxTooLong`. Defaults to 2048, or the context length of the model if that is
    smaller."""
    seed: Annotated[int | None, Field(ge=0, le=2**31 - 1, examples=[7])] = None
    """Random seed for the order of rows and the initial weights of the adapter. Defaults to 42."""
    beta: Annotated[Decimal | None, Between(above=0), Field(examples=["0.05"])] = None
    """The beta parameter of DPO. A higher value keeps the model closer to the reference model. Only for DPO.
    Defaults to 0.1."""
    loss: Literal["sigmoid", "ipo"] | None = None
    """Loss function of DPO. sigmoid: the loss of the DPO paper. ipo: a loss that stops separating chosen from
    rejected completions once a fixed margin is reached. Only for DPO. Defaults to sigmoid."""
    trainer_args: Annotated[
        dict[str, Annotated[str, Field(pattern=ARG_PATTERN, max_length=32)]] | None,
        Field(max_length=8, examples=[{"adam_beta2": "0.95"}]),
    ] = None
    """Arguments of TRL's trainer: optim, adam_beta1, adam_beta2 and adam_epsilon. optim is adamw_torch,
    adamw_torch_fused or adafactor. adafactor needs less memory; without an adapter, it supports only one GPU.
    Defaults to optim adamw_torch_fused on GPUs and adamw_torch on CPUs, adam_beta1 0.9, adam_beta2 0.999 and
    adam_epsilon 1e-8."""


class GateReference(ApiModel):
    """Reference to an EvalGate."""

    name: Annotated[Name, Field(examples=["invoice-golden"])]
    """Name of an EvalGate in the same namespace."""


class Stage(ApiModel):
    """One of the training runs of a job. Stages run in order. The first stage starts from the model of the
    job, and each later stage from the best passing checkpoint of the stage before it."""

    name: Annotated[ShortName, Field(examples=["sft"])]
    """Name of the stage in status, files and child Jobs, at most 20 characters."""
    method: Literal["SFT", "DPO"]
    """Training method. SFT: supervised fine-tuning on completions. DPO: direct preference optimization on
    preference pairs."""
    adapter: Adapter | None = None
    """The adapter to train. If omitted, all weights are trained."""
    quantization: Literal["NF4"] | None = None
    """Quantization of the frozen base model. NF4: 4 bits (QLoRA). With `adapter.from: Previous`, the
    quantization of the previous stage is used. If omitted, the base model has 16 or 32 bits."""
    training: Training = Training()
    """Training parameters."""
    gates: Annotated[
        list[GateReference] | None, Field(min_length=1, max_length=8, examples=[[{"name": "invoice-format"}]])
    ] = None
    """EvalGates that evaluate the checkpoints of this stage. Defaults to `gates` of the job."""
