"""The plan of a run: everything that is resolved before training."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.contract.digests import canonical_json, sha256_text
from tunegate_api.contract.shapes import GenerationBatch, Memory, ModelShape, Pass
from tunegate_api.meta import Count, Decimal, Listed, Mapped, Sha256, StatusModel


class TrainingParameters(StatusModel):
    """The resolved training parameters of a stage."""

    method: str
    adapter: Literal["LoRA", "None"]
    lora_r: int | None = None
    lora_alpha: int | None = None
    lora_dropout: float | None = None
    target_modules: Listed[str] | None = None
    """Target modules of the adapter, or tensors, such as those of experts. None if all weights are
    trained."""
    excluded_modules: Listed[str] | None = None
    """Parts of a multimodal model that are not trained: those outside the language model, unless
    ``target_modules`` names a layer that only they have. None if all parts are trained."""
    epochs: float
    learning_rate: float
    scheduler: str
    warmup_steps: Count
    weight_decay: float
    max_grad_norm: float
    batch_size: Count
    """Number of examples per optimizer step; for DPO, number of pairs."""
    pass_tokens: Count
    """Maximum number of tokens in a forward pass of one rank. A longer example, for DPO a longer pair, is
    computed in a pass of its own."""
    max_length: Count
    """Maximum length of an example in tokens."""
    seed: int
    dtype: str
    """Data type of the base weights. Trained weights and the optimizer state are float32."""
    quantization: Literal["NF4"] | None = None
    """Quantization of the frozen base model. NF4: the weights of its linear layers have 4 bits, with double
    quantization, and computations use ``dtype``."""
    beta: float | None = None
    """The beta parameter of DPO. A higher value keeps the model closer to the reference model, which is the
    starting model of the stage."""
    loss: str | None = None
    """Loss function of DPO: ``sigmoid`` or ``ipo``."""
    optim: str
    """Name of the optimizer in transformers."""
    adam_beta1: float | None = None
    adam_beta2: float | None = None
    adam_epsilon: float | None = None
    """``adam_beta1``, ``adam_beta2`` and ``adam_epsilon`` are parameters of AdamW. They are None for
    Adafactor."""

    @property
    def unit(self) -> str:
        """The unit of ``batch_size``, for messages."""
        return "pair" if self.method == "DPO" else "example"

    @property
    def examples(self) -> int:
        """Number of examples per optimizer step. A preference pair counts as two."""
        return self.batch_size * (2 if self.method == "DPO" else 1)


class StagePlan(StatusModel):
    name: str
    parameters: TrainingParameters
    starts_from: Literal["Adapter", "Merged"] | None = None
    """What the stage starts from. None: the stage is the first, and starts from the model of the job. Every
    later stage starts from the best passing checkpoint of the previous stage. Adapter: the stage continues to
    train the adapter of this checkpoint. Merged: the stage starts from the whole model of this checkpoint; an
    adapter in the checkpoint is merged into its base model first."""
    total_steps: Count
    """Number of optimizer steps. 0 in a forecast for data that cannot be read."""
    checkpoint_steps: Listed[Count]
    """Optimizer steps at which a checkpoint is saved and evaluated. The last one is ``total_steps``."""
    tokens: Count
    """Number of tokens in one epoch, including prompts."""
    gates: Listed[str]
    parallelism: Literal["DDP", "FSDP"] | None = None
    """Type of distributed training. DDP: each rank has all trained weights. FSDP: each rank has a shard of
    the weights, gradients and optimizer state, and gathers the other shards layer by layer. None: the stage
    trains in one process."""
    gathered_dtype: Literal["bfloat16", "float32"] | None = None
    """Data type in which FSDP gathers weights and computes: bfloat16, unless a gate evaluates in float32.
    None without FSDP."""
    largest_pass: Pass | None = None
    """A forward pass with as many tokens as the passes of the stage may have. No pass needs more memory. None
    if the shape of the model is not known."""
    least_pass: Pass | None = None
    """A forward pass with one example of the maximum length; for DPO, with one pair. None if the shape of the
    model is not known."""
    activation_checkpointing: bool | None = None
    """Whether the backward pass recomputes the activations of each block, because they do not fit the memory
    of the GPU. None if the memory or the shape of the model is not known: the trainer then decides."""
    largest_generation: GenerationBatch | None = None
    """The largest generation batch of all evaluations."""
    memory: Memory | None = None
    """Estimated memory of the stage. None if the shape of the model is not known."""


class SplitPlan(StatusModel):
    """A file in the workspace with the rows or preference pairs of one split."""

    rows: Count
    sha256: Sha256
    examples_sha256: Sha256 | None = None
    """Digest of the file with the tokenized rows or pairs. Only the train split has such a file."""


class PreferencePlan(StatusModel):
    """The splits of the preference pairs. A pair has a chosen and a rejected completion of one prompt."""

    source_sha256: Sha256
    train: SplitPlan
    dev: SplitPlan
    test: SplitPlan


class SampledRow(StatusModel):
    """A training row that is reviewed."""

    id: str
    """Id of the row in the sample, which depends only on the row's content."""
    row: str
    """Id of the row in the data, or its line number, at most 64 characters."""


class CalibrationCounts(StatusModel):
    """How a judge model scored the rows that people had scored before."""

    source_sha256: Sha256
    bad: Annotated[int, Field(ge=0)]
    """Number of rows that people scored as bad."""
    bad_found: Annotated[int, Field(ge=0)]
    """Number of these rows that the judge scored as bad, too."""
    good: Annotated[int, Field(ge=0)]
    """Number of rows that people scored as good."""
    good_accepted: Annotated[int, Field(ge=0)]
    """Number of these rows that the judge scored as good, too."""
    unscored: Annotated[int, Field(ge=0)] = 0
    """Number of rows, good and bad ones, that the judge gave no score. They are neither found nor
    accepted."""


class JudgedBad(StatusModel):
    """A row of the sample that a judge model scored as bad."""

    id: str
    reason: str
    """The reason of the judge, truncated."""


class JudgePlan(StatusModel):
    """The calibration of a judge model and, if it reviews training data, its scores. Its answers are on the
    volume: in data/review/judge.jsonl, and in judges/ for the judge of a gate."""

    model: Annotated[str, Field(max_length=256)]
    instructions_sha256: Sha256
    """Digest of the instructions for the judge, which include the rubric."""
    calibration: CalibrationCounts
    good: Listed[str] = []
    """Ids of the rows of the sample with a good score. Empty if the judge is not calibrated, and for the
    judge of a gate."""
    bad: Listed[JudgedBad] = []
    faults: Mapped[Count] = {}
    """Number of failed requests by kind of fault, see
    :class:`tunegate_trainer.graders.server.faults.Fault`."""


class SamplePlan(StatusModel):
    """The sample of training rows that are reviewed before training. Its content is in
    data/review/sample.jsonl on the volume."""

    sha256: Sha256
    """Digest of the sample, see :func:`tunegate_api.judging.review_sample.sample_digest`."""
    rows: Listed[SampledRow]
    judge: JudgePlan | None = None
    """The scores of the judge model. None without `data.quality.grader`."""


class ProductionPlan(StatusModel):
    """The sample of production inputs that the training inputs were compared with."""

    source_sha256: Sha256
    rows: Count
    """Number of distinct inputs."""
    distribution_auc: Annotated[Decimal | None, Field(alias="distributionAUC")] = None
    """Area under the ROC curve of a classifier that distinguishes training inputs from production inputs.
    None if there are too few inputs, or the check is off."""


class MixedPlan(StatusModel):
    """A source of use Mix."""

    name: str
    source_sha256: Sha256
    rows: Count
    """Number of its rows that are trained on, each counted once."""
    rows_per_epoch: Count
    """Number of its rows in each epoch, each counted as often as `weight` repeats it."""


class DataPlan(StatusModel):
    source_sha256: Sha256
    train: SplitPlan
    dev: SplitPlan
    test: SplitPlan
    dropped: Count
    """Number of dropped rows and pairs. data/report.json gives the reason for each."""
    mix: Listed[MixedPlan] = []
    """The sources of use Mix, whose rows are a part of `train`."""
    preference: PreferencePlan | None = None
    """The preference pairs. None without a DPO stage."""
    review: SamplePlan | None = None
    """The sample that is reviewed. None without `data.quality`."""
    production: ProductionPlan | None = None
    """The production inputs. None without a source of use Production."""
    schemas_sha256: Mapped[Sha256] = {}
    """Digest of the JSON schema of each JSONSchema metric, by the metric's name, see
    :func:`tunegate_trainer.evaluate.config_map_files.schema_sha256`."""
    warnings: Listed[str] = []


class StartPlan(StatusModel):
    """The artifact of the job in ``model.startFrom``. If it is a whole model, it is the model of this job. If
    it is an adapter, the model of this job was merged from the adapter and its base model."""

    job: str
    uid: str
    digest: Sha256
    """Digest of the artifact."""
    merged: bool
    """Whether the artifact is an adapter. If it is, the model of this job was merged, and nobody else has
    that model."""


class ModelLicense(StatusModel):
    """The license of a model, from its model card."""

    id: str
    """License id, for example ``apache-2.0``. ``other`` if the model hub does not list the license."""
    name: str | None = None
    """Name of a license that the model hub does not list."""
    link: str | None = None
    """HTTP address of the license text."""


class ModelPlan(StatusModel):
    uri: str
    """Address of the model. If the job starts from another job, the address of the other job's artifact."""
    revision: str | None = None
    digest: Sha256
    """Digest of the source files. If these files were converted or merged, the digest also depends on the
    version of the code that did this. The folder of the model in ``models/`` has this name."""
    parameters: Count
    start_from: StartPlan | None = None
    """The artifact of the job in `model.startFrom`. None if the spec has no `model.startFrom`."""
    chat_template_args: Mapped[Any] = {}
    """Arguments that are passed to the chat template whenever a chat is rendered."""
    shape: ModelShape | None = None
    """Sizes of the model. None if they cannot be read from the configuration of its architecture."""
    auto_class: str = "AutoModelForCausalLM"
    """The transformers class that loads the model."""
    license: ModelLicense | None = None
    """License of the model. None if the source has no model card with a license."""

    @property
    def is_merged(self) -> bool:
        """Whether the model was merged for this job. Others do not have this base model, so an adapter for it
        would be useless to them."""
        return self.start_from is not None and self.start_from.merged


class Plan(StatusModel):
    """Everything that is resolved before training. Jobs with equal plans run in the same way."""

    job_uid: str
    model: ModelPlan
    data: DataPlan
    stages: Listed[StagePlan]
    judging: Memory | None = None
    """Estimated memory of the final gate, which loads the artifact of the last stage on one GPU. None if the
    shape of the model is not known."""
    gate_judges: Mapped[JudgePlan] = {}
    """The calibrated judge of each gate whose golden set needs one, by the name of the gate."""
    versions: Mapped[str]
    """Versions of the libraries that the results depend on."""
    image: str | None = None
    """Image that prepared the data, with the digest reported by the cluster. None without a cluster."""

    def stage(self, name: str) -> StagePlan:
        return next(s for s in self.stages if s.name == name)

    def before(self, name: str) -> StagePlan:
        """Return the stage before the stage ``name``."""
        return self.stages[self.stages.index(self.stage(name)) - 1]

    def based_on(self, name: str) -> StagePlan:
        """Return the stage that started with the base model of the stage ``name``: the stage itself or, if it
        continues an adapter, the earlier stage that created the adapter."""
        stage = self.stage(name)
        return self.based_on(self.before(name).name) if stage.starts_from == "Adapter" else stage


def plan_digest(plan: Plan) -> Sha256:
    """Return the digest of a plan. The field ``image`` is left out, because the image is only known on a
    cluster."""
    return sha256_text(canonical_json(plan.model_copy(update={"image": None})))
