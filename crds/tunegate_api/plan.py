"""The plan of a run: everything that was resolved before training."""

from typing import Any, Literal

from tunegate_api.memory.shapes import GenerationBatch, Memory, ModelShape, Pass
from tunegate_api.meta import Listed, Mapped, Sha256, StatusModel


class TrainingParameters(StatusModel):
    """A stage's parameters, every one resolved."""

    method: str
    adapter: Literal["LoRA", "None"]
    lora_r: int | None = None
    lora_alpha: int | None = None
    lora_dropout: float | None = None
    target_modules: Listed[str] | None = None
    """Of an adapter; without one, all weights are trained."""
    excluded_modules: Listed[str] | None = None
    """The parts of a multimodal model that are not trained: its vision tower, unless ``target_modules`` names
    a layer of it. None where all parts are."""
    epochs: float
    learning_rate: float
    scheduler: str
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    batch_size: int
    """Examples per optimizer step; of DPO, pairs."""
    micro_batch_size: int
    """Of these, per forward pass."""
    max_length: int
    """Tokens."""
    seed: int
    dtype: str
    """Of the base weights; what is trained, and the optimizer, is float32."""
    quantization: Literal["NF4"] | None = None
    """How a frozen base is held: its linear layers in 4 bits, with double quantization, and computed with in
    ``dtype``."""
    beta: float | None = None
    """Of DPO: how closely to stay to the reference, which is the model that the stage started from."""
    loss: str | None = None
    """Of DPO: ``sigmoid`` or ``ipo``."""
    optim: str | None = None
    """The optimizer, by its name in transformers. None, in plans of before it could be chosen: AdamW."""
    adam_beta1: float | None = None
    adam_beta2: float | None = None
    adam_epsilon: float | None = None
    """These three of AdamW. None, as above: 0.9, 0.999, 1e-8."""

    @property
    def unit(self) -> str:
        """What ``batch_size`` counts, in words."""
        return "pair" if self.method == "DPO" else "example"


class StagePlan(StatusModel):
    name: str
    parameters: TrainingParameters
    starts_from: Literal["Adapter", "Merged"] | None = None
    """What the stage takes from the one before, of its best passing checkpoint. Adapter: it is trained
    further. Merged: all weights, an adapter merged into its base. None, for a first stage: it starts from the
    job's model."""
    total_steps: int
    """Optimizer steps."""
    checkpoint_steps: Listed[int]
    """Steps after which a checkpoint is saved and evaluated; the last is ``total_steps``."""
    tokens: int
    """Tokens of one epoch, prompts included."""
    gates: Listed[str]
    parallelism: Literal["DDP", "FSDP"] | None = None
    """How several processes hold what is trained. DDP: each has all of it. FSDP: each has its share of the
    weights, gradients and optimizer, and borrows the others' layer by layer. None: one process."""
    largest_pass: Pass | None = None
    """The examples of a forward pass if all of them are the longest: no pass needs more memory."""
    largest_generation: GenerationBatch | None = None
    """Of all evaluations."""
    memory: Memory | None = None
    """What the stage needs, by an estimate. None where the model's shape is not known."""


class SplitPlan(StatusModel):
    """One file of rows, or of pairs, on the workspace."""

    rows: int
    sha256: Sha256


class PreferencePlan(StatusModel):
    """Pairs of a chosen and a rejected completion of one prompt."""

    source_sha256: Sha256
    train: SplitPlan
    dev: SplitPlan
    test: SplitPlan


class DataPlan(StatusModel):
    source_sha256: Sha256
    train: SplitPlan
    dev: SplitPlan
    test: SplitPlan
    dropped: int
    """Rows and pairs left out, each with its reason in data/report.json."""
    preference: PreferencePlan | None = None
    """Where a stage learns from preferences."""
    warnings: Listed[str] = []


class StartPlan(StatusModel):
    """Another job's artifact that a model is, or was made of."""

    job: str
    uid: str
    digest: Sha256
    """Of the artifact."""
    merged: bool
    """Whether it was an adapter, merged into its base: a model that nobody else has."""


class ModelLicense(StatusModel):
    """What the model card of a source says of its license."""

    id: str
    """Such as ``apache-2.0``; ``other`` for one that the model hub does not list."""
    name: str | None = None
    """Of another one."""
    link: str | None = None
    """Where its text is, as an http address."""


class ModelPlan(StatusModel):
    uri: str
    """Of a model that another job ended with, where that job's artifact lies."""
    revision: str | None = None
    digest: Sha256
    """Of the source: its files and, where it is converted, how. It names the folder in ``models/``."""
    parameters: int
    start_from: StartPlan | None = None
    """Where the job starts from another one."""
    chat_template_args: Mapped[Any] = {}
    """Arguments of the chat template, wherever a chat is rendered."""
    shape: ModelShape | None = None
    """None of an architecture whose sizes are not found in its configuration."""
    auto_class: str | None = None
    """The class of transformers that loads it. None, in older plans: AutoModelForCausalLM."""
    license: ModelLicense | None = None
    """None where the source has no model card that says so."""

    @property
    def is_merged(self) -> bool:
        """Whether it was merged for this job, so that nobody else could put an adapter beside it."""
        return self.start_from is not None and self.start_from.merged


class Plan(StatusModel):
    """Everything that was resolved before training. The same plan is the same run."""

    job_uid: str
    model: ModelPlan
    data: DataPlan
    stages: Listed[StagePlan]
    judging: Memory | None = None
    """What the gate needs, by an estimate: the artifact of the last stage on one GPU. None as of a stage."""
    versions: Mapped[str]
    """Versions of the libraries that the results depend on."""
    image: str | None = None
    """The image that the data was prepared in, by digest, as the cluster tells it. None without a cluster."""

    def stage(self, name: str) -> StagePlan:
        return next(s for s in self.stages if s.name == name)

    def before(self, name: str) -> StagePlan:
        """The stage before one that ``starts_from`` it."""
        return self.stages[self.stages.index(self.stage(name)) - 1]

    def based_on(self, name: str) -> StagePlan:
        """The stage at whose start the base of a stage's weights was made: itself, or an earlier one whose
        adapter it trains further."""
        stage = self.stage(name)
        return self.based_on(self.before(name).name) if stage.starts_from == "Adapter" else stage
