"""The train role: train one stage, and evaluate its checkpoints."""

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig

from tunegate_api.contract.plan import DataPlan, SplitPlan, StagePlan, TrainingParameters
from tunegate_api.contract.process import Outcome
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Subject
from tunegate_api.contract.workspace import PAIRS_PREFIX, TRAIN_EXAMPLES
from tunegate_api.verdict.stop_rule import StopAction
from tunegate_trainer.distributed.ranks import SINGLE_RANK, TRAINING_SECONDS, Ranks, process_group
from tunegate_trainer.evaluate.evaluate import Weights, evaluate
from tunegate_trainer.evaluate.golden_sets import open_golden_sets
from tunegate_trainer.evaluate.safety_sets import safety_sets
from tunegate_trainer.evaluate.sets import EvaluationSet, check_split, held_out_sets
from tunegate_trainer.models.base_model import verified_base
from tunegate_trainer.models.loading import evaluation_precision, load_weights
from tunegate_trainer.planning.plan import ADAMW
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.device import choose_device, memory_bytes
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import RetryWithLessMemoryError, UserError, out_of_memory_explained
from tunegate_trainer.process.files import read_manifest, sha256_file, weights_digest
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.example_file import ExampleFile, PairFile
from tunegate_trainer.tokens.examples import Example, ExamplePair, tokenize_pairs, tokenize_rows
from tunegate_trainer.tokens.rows import read_pairs, read_rows
from tunegate_trainer.train.callback import StageCallback
from tunegate_trainer.train.checkpoints import CheckpointFolder
from tunegate_trainer.train.dataset import PairExamples, training_dataset
from tunegate_trainer.train.losses import LossFile
from tunegate_trainer.train.overrides import StageTrainer
from tunegate_trainer.train.pass_tokens import (
    PassTooLargeError,
    fitted,
    memory_hint,
    need_less_memory,
    with_pass_tokens,
)
from tunegate_trainer.train.preference import disable_dropout, reference_log_probs
from tunegate_trainer.train.progress import ProgressReporter
from tunegate_trainer.train.record import StageRecord
from tunegate_trainer.train.retention import remove_unneeded
from tunegate_trainer.train.start import find_shards, find_start, load_start, score_start, trainable
from tunegate_trainer.train.trainer import CompletionTrainer, PreferenceTrainer

logger = logging.getLogger(__name__)


def run(context: Context) -> Outcome:
    """Train ``context.stage``, distributed over several ranks if the job requests them.

    Return Completed, also if no checkpoint can pass, or Stopped if the stop rule ended the stage. Raises
    :class:`TrainerError` if training fails, and :class:`Interrupted` after SIGTERM.
    """
    with process_group(context.request) as ranks:
        return train_stage(context, ranks)


def train_stage(context: Context, ranks: Ranks) -> Outcome:
    """Train ``context.stage`` as one of ``ranks``. Only the primary rank writes files.

    If a pass does not fit the GPU, training resumes from the last checkpoint with recomputed activations or
    fewer tokens per pass. With several ranks, this attempt ends with :class:`RetryWithLessMemoryError`, and
    the next attempt resumes.
    """
    if context.stage is None:
        raise UserError("the train role needs --stage")
    stage = context.plan.stage(context.stage)
    check_parameters(stage.parameters, ranks.world_size)
    device = choose_device(context.request, ranks.local_rank)
    smallest = min(ranks.gather(memory_bytes(device) or 0))
    stage = fitted(
        stage,
        context.plan.model,
        smallest or None,
        mean_tokens=stage.tokens / max(1, _rows(context.plan.data, stage.parameters.method)),
        processes=ranks.world_size,
    )
    folder = context.workspace / context.paths.stage(stage.name)
    writer = ranks.claim(folder)
    try:
        while True:
            used = ranks.broadcast(lambda: with_pass_tokens(stage, folder))
            try:
                with out_of_memory_explained(lambda: memory_hint(stage)):
                    return _train(context, used, writer, device, ranks)
            except PassTooLargeError as error:
                too_large = PassTooLargeError(str(error), tokens=error.tokens, units=error.units)
            # Outside of the handler, the error and the tensors in its frames are freed. Resume from disk.
            writer.check()
            need_less_memory(used, folder, too_large, ranks.world_size)
            if ranks.world_size > 1:  # the other ranks are in the middle of a step, so all start again
                raise RetryWithLessMemoryError(f"the next attempt needs less memory: {too_large}")
            # If SIGTERM came in the step that did not fit, there is nothing to save.
            context.interruption.check()
            gc.collect()
            torch.cuda.empty_cache()
    finally:
        # If another process took over, raise Superseded whatever ended this one, so that it reports nothing.
        with context.interruption.deferred():
            writer.check()


def _train(context: Context, stage: StagePlan, writer: Writer, device: torch.device, ranks: Ranks) -> Outcome:
    workspace, paths, plan, options = context.workspace, context.paths, context.plan, context.options
    folder, parameters = workspace / paths.stage(stage.name), stage.parameters
    progress = ProgressReporter(context, writer, stage)

    # Find the step of an earlier attempt from the complete files on disk.
    checkpoints = CheckpointFolder(folder, writer)
    checkpoints.clean()
    resumed_step = ranks.broadcast(lambda: checkpoints.newest() or 0)
    losses = LossFile(folder, writer)
    losses.truncate_after(resumed_step)

    # Load the golden sets, safety sets and held-out rows that every checkpoint is evaluated on.
    base_model = ranks.once_per_node(lambda: verified_base(workspace, plan))
    tokenizer = load_tokenizer(base_model, arguments=plan.model.chat_template_args)
    start_sets, sets = evaluation_sets(context, stage, tokenizer)
    record = StageRecord(
        workspace / paths.evaluation(stage.name, 0).parent,
        lambda step: workspace / paths.evaluation(stage.name, step),
        writer=writer,
        plan=stage,
        request=context.request,
        sets=start_sets,
        accepted_step=options.accepted_step,
    )
    record.truncate_after(resumed_step)
    remove_unneeded(context, stage.name, checkpoints, record)
    record.evaluations = ranks.broadcast(lambda: record.evaluations)
    progress.resumed(resumed_step, losses.at(resumed_step), record.evaluations)
    progress.report(activity="loading model", results=record.results)
    if record.next_step() is None:
        return _outcome(record)  # an earlier attempt completed or stopped, but could not report it

    examples = read_examples(context, stage, tokenizer)

    # Load and evaluate the starting weights: the first point of the stop rule's history.
    start = ranks.once_per_node(
        lambda: find_start(context, stage, writer, base_model, options.start_step), primary_first=True
    )
    evaluation_ranks = replace(ranks, splits_evaluation=stage.parallelism != "FSDP")
    shards = find_shards(context.request, stage, device)
    model = load_start(start, parameters, device, examples, shards)
    if not record.has(0):
        progress.report(activity="evaluating")
        evaluation = record.add(
            Weights(Subject.START, stage.name, step=0, digest=start.digest),
            start_sets,
            score_start(
                context,
                stage,
                start,
                model,
                tokenizer=tokenizer,
                sets=start_sets,
                ranks=evaluation_ranks,
                shards=shards,
            ),
        )
        progress.evaluated(0, evaluation.seconds, record.results)
        if record.next_step() is None:
            return _outcome(record)
    model = trainable(model, plan.model, parameters)
    if parameters.method == "DPO":
        disable_dropout(model)
        progress.report(activity="computing the reference")
    dataset = training_dataset(
        training_examples(examples, folder, model, start.digest, stage=stage, ranks=evaluation_ranks),
        steps=stage.total_steps,
        batch_size=parameters.batch_size,
        seed=parameters.seed,
    )

    def evaluate_checkpoint(step: int) -> None:
        progress.report(activity="evaluating")
        weights = ranks.broadcast(lambda: checkpoint_weights(stage.name, step, checkpoints, losses))
        with evaluation_precision(device, whole=parameters.adapter == "None"):
            evaluation = record.add(weights, sets, evaluate(model, tokenizer, sets, evaluation_ranks))
        record.score_start_again(ranks)
        progress.evaluated(step, evaluation.seconds, record.results)
        remove_unneeded(context, stage.name, checkpoints, record)

    # If the last checkpoint was saved but not evaluated, evaluate it before training continues.
    if resumed_step and record.next_step() == resumed_step:
        load_weights(model, checkpoints.path(resumed_step), ranks.barrier)
        evaluate_checkpoint(resumed_step)
    if record.next_step() is None:
        return _outcome(record)

    callback = StageCallback(
        checkpoints=checkpoints,
        record=record,
        losses=losses,
        progress=progress,
        interruption=context.interruption,
        evaluate_checkpoint=evaluate_checkpoint,
        ranks=ranks,
    )
    trainer = make_trainer(
        parameters,
        callback,
        model=model,
        ranks=ranks,
        args=trainer_arguments(stage, device, checkpoints.scratch, ranks.world_size),
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    with context.interruption.deferred():
        trainer.train_from(checkpoints, resumed_step)
    checkpoints.close()
    return _outcome(record)


def _rows(data: DataPlan, method: str) -> int:
    """Return the number of rows or pairs that a stage with this training method trains on."""
    return (data.preference.train if method == "DPO" and data.preference else data.train).rows


def checkpoint_weights(stage: str, step: int, checkpoints: CheckpointFolder, losses: LossFile) -> Weights:
    """Return the identity of a checkpoint's weights, and its loss."""
    digest = weights_digest(read_manifest(checkpoints.path(step)).files)
    return Weights(Subject.CHECKPOINT, stage, step, digest, losses.at(step))


def _outcome(record: StageRecord) -> Outcome:
    found = record.assessment()
    if found and found.assessment.action is StopAction.STOP:
        logger.warning("stopped by %s: %s", found.source, found.assessment.message)
        return Outcome.STOPPED
    return Outcome.COMPLETED


def evaluation_sets(
    context: Context, stage: StagePlan, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[EvaluationSet], list[EvaluationSet]]:
    """Return the evaluation sets for the starting model, and the evaluation sets for checkpoints.

    In the first stage, the starting model is the base model, so it is also evaluated on the sets of gates
    that only other stages have.
    """
    gates = context.request.gates_of(stage.name)
    others = [g for g in context.request.gates if g not in gates] if stage.starts_from is None else []
    sets = [*_sets_of_gates(context, tokenizer, gates), *held_out_sets(context, tokenizer, "dev")]
    return [*sets, *_sets_of_gates(context, tokenizer, others)], sets


def _sets_of_gates(
    context: Context, tokenizer: PreTrainedTokenizerBase, gates: Sequence[GateRequest]
) -> list[EvaluationSet]:
    """Return the open golden cases of gates, and the safety sets on which checkpoints are evaluated."""
    safety = [gate for gate in gates if gate.safety_at_checkpoints]
    return [*open_golden_sets(context, tokenizer, gates), *safety_sets(context, tokenizer, safety)]


Examples = Sequence[Example] | Sequence[ExamplePair]
"""For SFT, one example per row. For DPO, two examples per pair: with the chosen and with the rejected
answer."""


def read_examples(context: Context, stage: StagePlan, tokenizer: PreTrainedTokenizerBase) -> Examples:
    """Return the training examples of a stage.

    The data role has tokenized them. If its file is missing or was changed, the rows or pairs are tokenized
    again, from their own file, whose digest must match the plan.
    """
    folder, data, longest = (
        context.workspace / context.paths.data,
        context.plan.data,
        stage.parameters.max_length,
    )
    if stage.parameters.method == "SFT":
        path = folder / "train.jsonl"
        check_split(path, data.train)
        stored = _stored_examples(folder / TRAIN_EXAMPLES, data.train)
        return tokenize_rows(tokenizer, read_rows(path), longest) if stored is None else stored
    if data.preference is None:
        raise UserError(f"stage {stage.name} trains on preference pairs, but the plan has none")
    path = folder / f"{PAIRS_PREFIX}train.jsonl"
    check_split(path, data.preference.train)
    stored = _stored_examples(folder / f"{PAIRS_PREFIX}{TRAIN_EXAMPLES}", data.preference.train)
    return tokenize_pairs(tokenizer, read_pairs(path), longest) if stored is None else PairFile(stored)


def _stored_examples(path: Path, plan: SplitPlan) -> ExampleFile | None:
    """Return the examples that the data role has tokenized; None if the file does not have the digest in the
    plan."""
    if plan.examples_sha256 is None or not path.exists() or sha256_file(path) != plan.examples_sha256:
        logger.info("%s is missing or was changed: the rows are tokenized again", path.name)
        return None
    return ExampleFile(path)


def training_examples(
    examples: Examples,
    folder: Path,
    model: Any,
    weights: str,
    *,
    stage: StagePlan,
    ranks: Ranks = SINGLE_RANK,
) -> Sequence[Mapping[str, Any]]:
    """Return the examples in the trainer's format. A pair has the reference log-probabilities of both
    answers.

    ``model`` must still have the starting weights, whose digest is ``weights``. Raises
    :class:`CudaOutOfMemoryError` if a single answer does not fit the GPU.
    """
    if stage.parameters.method == "SFT":
        return cast("Sequence[Example]", examples)
    pairs = cast("Sequence[ExamplePair]", examples)
    with out_of_memory_explained(lambda: memory_hint(stage), "while computing the reference of one answer"):
        reference = reference_log_probs(folder, model, weights, pairs, ranks)
    return PairExamples(pairs, reference)


def make_trainer(
    parameters: TrainingParameters, callback: StageCallback | None = None, **arguments: Any
) -> StageTrainer:
    """Return the trainer for the training method, with ``callback`` attached. The trainer prints nothing."""
    trainer: StageTrainer
    if parameters.method == "SFT":
        trainer = CompletionTrainer(pass_tokens=parameters.pass_tokens, **arguments)
    else:
        trainer = PreferenceTrainer(
            pass_tokens=parameters.pass_tokens,
            loss=str(parameters.loss),
            beta=float(parameters.beta or 0),
            **arguments,
        )
    trainer.remove_callback(PrinterCallback)
    if callback is not None:
        callback.trainer = trainer
        trainer.add_callback(callback)
    return trainer


def check_parameters(parameters: TrainingParameters, processes: int = 1) -> None:
    """Raise :class:`UserError` if a batch cannot be divided evenly among all ranks."""
    if parameters.batch_size % processes:
        raise UserError(
            f"training.batchSize is {parameters.batch_size}, not a multiple of the {processes} ranks",
            f"set training.batchSize to a multiple of {processes}",
        )


def trainer_arguments(stage: StagePlan, device: torch.device, scratch: Path, processes: int = 1) -> SFTConfig:
    """Return the stage's parameters as arguments of TRL.

    The examples of each optimizer step are divided evenly among the ``processes``. A rank's examples are one
    batch of TRL, which :class:`StageTrainer` divides into passes.
    """
    parameters, on_cpu = stage.parameters, device.type == "cpu"
    adamw = parameters.model_dump(include=set(ADAMW), exclude_none=True)
    return SFTConfig(
        output_dir=str(scratch),
        max_steps=stage.total_steps,
        per_device_train_batch_size=parameters.batch_size // processes,
        learning_rate=parameters.learning_rate,
        # transformers' "constant" has no warm-up, but ours does.
        lr_scheduler_type="constant_with_warmup"
        if parameters.scheduler == "constant"
        else parameters.scheduler,
        warmup_steps=parameters.warmup_steps,
        weight_decay=parameters.weight_decay,
        max_grad_norm=parameters.max_grad_norm,
        optim=parameters.optim,
        **adamw,
        seed=parameters.seed,
        train_sampling_strategy="sequential",  # the dataset is in training order
        dataset_kwargs={"skip_prepare_dataset": True},  # it is tokenized already
        remove_unused_columns=False,
        padding_free=True,
        max_length=None,
        # bf16 would change the model's forward, also in evaluations; the loss uses autocast where needed.
        bf16=False,
        activation_checkpointing=bool(stage.activation_checkpointing),
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        ddp_backend="gloo" if on_cpu and processes > 1 else None,
        ddp_timeout=TRAINING_SECONDS,
        save_strategy="no",  # the callback decides when to save
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )
