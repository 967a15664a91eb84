"""How one stage is trained, from top to bottom."""

import logging
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig

from tunegate_api.contract import Outcome, Plan, StagePlan, Subject, TrainingParameters
from tunegate_api.verdict import StopAction
from tunegate_trainer.base_model import verified_base
from tunegate_trainer.context import Context
from tunegate_trainer.errors import UserError
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.evaluate import Weights, evaluate
from tunegate_trainer.evaluate.sets import check_split, golden_sets, task_metrics
from tunegate_trainer.files import read_manifest, weights_digest
from tunegate_trainer.interruption import Interruption
from tunegate_trainer.model import choose_device, hub_name, load_base, load_tokenizer, load_weights
from tunegate_trainer.rows import read_rows
from tunegate_trainer.train.attention import BY_EXAMPLE
from tunegate_trainer.train.callback import StageCallback
from tunegate_trainer.train.checkpoints import CheckpointFolder
from tunegate_trainer.train.examples import training_dataset
from tunegate_trainer.train.losses import LossFile
from tunegate_trainer.train.progress import ProgressReporter
from tunegate_trainer.train.record import StageRecord
from tunegate_trainer.train.trainer import CompletionTrainer
from tunegate_trainer.train.writer import Writer

logger = logging.getLogger(__name__)

_LARGE_MODEL = 1_000_000_000
"""Parameters from which activations are recomputed to fit a GPU, at about 20 % more time a step."""


def run(context: Context, interruption: Interruption, accepted_step: int | None = None) -> Outcome:
    """Train ``context.stage``. ``accepted_step`` is the checkpoint at which a person said to continue.

    Returns Completed, or Stopped by the stop rule. Raises a :class:`TrainerError` that names what is wrong,
    or ``Interrupted`` once everything is saved.
    """
    if context.stage is None:
        raise UserError("the train role needs --stage")
    stage = context.plan.stage(context.stage)
    check_parameters(stage.parameters)
    device = choose_device(context.request)
    writer = Writer.claim(context.workspace / context.paths.stage(stage.name))
    try:
        return _train(context, stage, writer, device, interruption=interruption, accepted_step=accepted_step)
    finally:
        # A process whose files are taken over ends in many ways, also by SIGTERM, and reports none of them.
        with interruption.deferred():
            writer.check()


def _train(
    context: Context,
    stage: StagePlan,
    writer: Writer,
    device: torch.device,
    *,
    interruption: Interruption,
    accepted_step: int | None,
) -> Outcome:
    workspace, paths, plan = context.workspace, context.paths, context.plan
    folder = workspace / paths.stage(stage.name)
    parameters = stage.parameters
    progress = ProgressReporter(context, writer, stage)

    # Where an earlier attempt got to, by what is complete on disk.
    checkpoints = CheckpointFolder(folder, writer)
    checkpoints.clean()
    resumed_step = checkpoints.newest() or 0
    losses = LossFile(folder, writer)
    losses.cut_back(resumed_step)

    # What every checkpoint is measured by.
    base_model = verified_base(workspace, plan)
    tokenizer = load_tokenizer(base_model)
    gates = context.request.gates_of(stage.name)
    sets = [*golden_sets(context, tokenizer, gates), task_metrics(context, tokenizer, "dev")]
    record = StageRecord(
        workspace / paths.evaluation(stage.name, 0).parent,
        lambda step: workspace / paths.evaluation(stage.name, step),
        writer=writer,
        plan=stage,
        gates=gates,
        sets=sets,
        accepted_step=accepted_step,
    )
    record.cut_back(resumed_step)
    progress.step, progress.loss = resumed_step, losses.at(resumed_step)
    progress.report(activity="loading model", results=record.results)
    if record.next_step() is None:
        return _outcome(record)  # an earlier attempt ended, or was stopped, and could not say so

    examples = read_examples(context, stage, tokenizer)

    # The starting weights, and what they score: the first point of the stop rule's history.
    base = load_base(base_model, parameters.dtype, device)
    if not record.has(0):
        progress.report(activity="evaluating")
        cache = BaselineCache(context, parameters.dtype, device)
        start = Weights(Subject.START, stage.name, step=0, digest=plan.model.digest)
        evaluation = record.add(start, cache.evaluate(base, tokenizer, sets))
        progress.evaluated(0, evaluation.seconds, record.results)
    model = starting_weights(base, plan, parameters)

    def evaluate_checkpoint(step: int) -> None:
        progress.report(activity="evaluating")
        digest = weights_digest(read_manifest(checkpoints.path(step)).files)
        weights = Weights(Subject.CHECKPOINT, stage.name, step, digest, losses.at(step))
        evaluation = record.add(weights, evaluate(model, tokenizer, sets))
        progress.evaluated(step, evaluation.seconds, record.results)

    # A checkpoint that was saved but not evaluated is evaluated before training goes on.
    if resumed_step and record.next_step() == resumed_step:
        load_weights(model, checkpoints.path(resumed_step))
        evaluate_checkpoint(resumed_step)
    if record.next_step() is None:
        return _outcome(record)

    # The rest of the steps.
    callback = StageCallback(
        checkpoints=checkpoints,
        record=record,
        losses=losses,
        progress=progress,
        interruption=interruption,
        evaluate_checkpoint=evaluate_checkpoint,
    )
    trainer = CompletionTrainer(
        model=model,
        args=trainer_arguments(stage, plan, device, checkpoints.scratch),
        train_dataset=examples,
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    callback.trainer = trainer
    if device.type == "cpu":
        base.set_attn_implementation(BY_EXAMPLE)
    with interruption.deferred():
        trainer.weights = checkpoints.path(resumed_step)
        trainer.train(str(checkpoints.state(resumed_step)) if resumed_step else None)
    checkpoints.close()
    return _outcome(record)


def _outcome(record: StageRecord) -> Outcome:
    found = record.assessment()
    if found and found.assessment.action is StopAction.STOP:
        logger.warning("stopped by %s: %s", found.gate, found.assessment.message)
        return Outcome.STOPPED
    return Outcome.COMPLETED


def read_examples(context: Context, stage: StagePlan, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The examples of the whole stage in training order, of the rows that the plan pins."""
    path = context.workspace / context.paths.data / "train.jsonl"
    check_split(path, context.plan.data.train)
    return training_dataset(
        tokenizer,
        read_rows(path),
        max_length=stage.parameters.max_length,
        steps=stage.total_steps,
        batch_size=stage.parameters.batch_size,
        seed=stage.parameters.seed,
    )


def check_parameters(parameters: TrainingParameters) -> None:
    """Raise :class:`UserError` for what the trainer cannot do."""
    if parameters.method != "SFT":
        raise UserError(f"method {parameters.method} is not supported yet")
    if parameters.batch_size % parameters.micro_batch_size:
        raise UserError(
            f"batchSize {parameters.batch_size} is not a multiple of the "
            f"{parameters.micro_batch_size} examples of a forward pass"
        )


def starting_weights(base: PreTrainedModel, plan: Plan, parameters: TrainingParameters) -> Any:
    """The weights that a stage starts from: the base itself, or the frozen base with a new float32 adapter,
    which changes nothing yet. Returns a model of transformers or a ``peft.PeftModel``."""
    set_seed(parameters.seed)
    if parameters.adapter == "None":
        return base
    modules = parameters.target_modules
    settings: dict[str, Any] = {
        "r": parameters.lora_r,
        "lora_alpha": parameters.lora_alpha,
        "lora_dropout": parameters.lora_dropout,
        "target_modules": "all-linear" if modules == ["all-linear"] else modules,
    }
    try:
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
    except ValueError as error:  # target modules that are not in the model
        raise UserError(f"adapter.targetModules: {error}") from error
    model.peft_config["default"].base_model_name_or_path = hub_name(plan.model.uri)
    model.peft_config["default"].revision = plan.model.revision
    return model


def trainer_arguments(stage: StagePlan, plan: Plan, device: torch.device, scratch: Path) -> SFTConfig:
    """The stage's parameters in the words of transformers and TRL."""
    parameters = stage.parameters
    on_cpu = device.type == "cpu"
    return SFTConfig(
        output_dir=str(scratch),
        max_steps=stage.total_steps,
        per_device_train_batch_size=parameters.micro_batch_size,
        gradient_accumulation_steps=parameters.batch_size // parameters.micro_batch_size,
        learning_rate=parameters.learning_rate,
        # "constant" of transformers has no warm-up, ours does.
        lr_scheduler_type="constant_with_warmup"
        if parameters.scheduler == "constant"
        else parameters.scheduler,
        warmup_steps=parameters.warmup_steps,
        weight_decay=parameters.weight_decay,
        max_grad_norm=parameters.max_grad_norm,
        optim="adamw_torch",
        seed=parameters.seed,
        train_sampling_strategy="sequential",  # the data set is in training order
        dataset_kwargs={"skip_prepare_dataset": True},  # and tokenized
        padding_free=True,
        max_length=None,
        # It would change the model's forward, in evaluations too; the loss does what is needed.
        bf16=False,
        activation_checkpointing=not on_cpu and plan.model.parameters >= _LARGE_MODEL,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        save_strategy="no",  # the callback says when
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )
