"""Find and load the model that a stage starts from: the base model, or the result of the previous stage."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import LoraConfig, PeftModel
from transformers import PreTrainedTokenizerBase, set_seed

from tunegate_api.contract.plan import ModelPlan, StagePlan, TrainingParameters
from tunegate_api.contract.request import Request
from tunegate_trainer.artifacts.build import check_checkpoint, write_artifact
from tunegate_trainer.distributed.ranks import Ranks
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.evaluate import SetResult, evaluate, read_cases
from tunegate_trainer.evaluate.sets import EvaluationSet
from tunegate_trainer.models.adapter import add_adapter
from tunegate_trainer.models.architecture import rope_switch
from tunegate_trainer.models.base_model import merged_base
from tunegate_trainer.models.loading import (
    Shards,
    evaluation_precision,
    hub_name,
    load_base,
    training_precision,
)
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.process.files import is_complete, read_manifest, remove, verify, weights_digest
from tunegate_trainer.tokens.examples import Example, ExamplePair
from tunegate_trainer.tokens.likelihood import compute_singly
from tunegate_trainer.tokens.shared_prefix import allow_shared_prefixes
from tunegate_trainer.train.packing import can_share, isolates_examples, probe_rows, set_attention, set_head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The folders with the starting weights of a stage."""

    base: Path
    """The folder of the model whose weights are trained, or are frozen while an adapter is trained."""
    digest: str
    """The digest of the starting weights."""
    adapter: Path | None = None
    """The checkpoint of the previous stage whose adapter is trained further. None if no adapter is
    continued."""
    measured: Path | None = None
    """The folder with the evaluation of the checkpoint in ``adapter``. None without such a checkpoint."""


def find_start(
    context: Context, stage: StagePlan, writer: Writer, model: Path, start_step: int | None
) -> Start:
    """Find the starting weights of a stage and verify their files. If the stage starts from a merged model,
    create this model.

    ``model`` is the folder of the base model, and ``start_step`` is the step of the previous stage's
    checkpoint. Raises :class:`UserError` if a stage other than the first has no ``start_step``.
    """
    workspace, paths, plan = context.workspace, context.paths, context.plan
    if stage.starts_from is None:
        return Start(model, plan.model.digest)
    if not start_step:
        raise UserError(
            f"the option --start-step is missing: stage {stage.name} is not the first stage, and every later "
            "stage starts from a checkpoint of the previous stage"
        )
    before = plan.before(stage.name)
    checkpoint = workspace / paths.checkpoint(before.name, start_step)
    base = merged_base(context, before.name) or model
    if stage.starts_from == "Adapter":
        check_checkpoint(checkpoint)
        digest = weights_digest(read_manifest(checkpoint).files)
        measured = workspace / paths.evaluation(before.name, start_step)
        return Start(base, digest, adapter=checkpoint, measured=measured)
    folder = workspace / paths.merged(stage.name)
    if not is_complete(folder) or verify(folder):
        logger.info("merging checkpoint %d of stage %s into one model", start_step, before.name)
        scratch = folder.with_name(f"scratch-base-{writer.epoch:06d}")
        write_artifact(checkpoint, base, scratch, whole=True, trained=before.parameters)
        writer.check()
        remove(folder)
        scratch.rename(folder)
    return Start(folder, read_manifest(folder).digest)


def find_shards(request: Request, stage: StagePlan, device: torch.device) -> Shards | None:
    """Return how the model of a stage is sharded, or None if it is not."""
    if stage.parallelism != "FSDP":
        return None
    return Shards(request.spec.resources.processes, gathers_in_bfloat16(device, request))


def gathers_in_bfloat16(device: torch.device, request: Request) -> bool:
    """Return whether FSDP gathers weights in bfloat16: on a GPU, unless a gate evaluates in float32."""
    return device.type == "cuda" and request.gathered_dtype == "bfloat16"


def load_start(
    start: Start,
    parameters: TrainingParameters,
    device: torch.device,
    examples: Sequence[Example] | Sequence[ExamplePair],
    shards: Shards | None = None,
) -> Any:
    """Load the model that a stage starts from, with the adapter that it trains further, if any.

    Faster ways to compute a pass are tried on two of the training ``examples``. If ``shards`` is given, the
    model is sharded over several ranks. Return a transformers model, or a
    ``peft.PeftModel`` with a float32 adapter. If the architecture does not keep packed examples apart, the
    model is set up to compute each example in a separate pass.
    """
    base = load_base(start.base, parameters.dtype, device, parameters.quantization, shards)
    with training_precision(base):
        rows = probe_rows(examples)
        set_attention(base, rows)
        # All ranks must compute the same number of passes, whatever the lengths of their examples.
        has_sides = parameters.max_length > (rope_switch(base.config) or parameters.max_length)
        is_distributed = dist.is_initialized() and dist.get_world_size() > 1
        if not isolates_examples(base, rows) or (is_distributed and has_sides):
            compute_singly(base)
        else:
            set_head(base, rows, trains_head=parameters.adapter == "None")
            if not parameters.lora_dropout and can_share(base, rows):
                allow_shared_prefixes(base)
    if start.adapter is None:
        return base
    config = LoraConfig.from_pretrained(str(start.adapter))
    config.lora_dropout = parameters.lora_dropout
    return PeftModel.from_pretrained(
        base, str(start.adapter), is_trainable=True, config=config, torch_device=str(device)
    )


def trainable(model: Any, base: ModelPlan, parameters: TrainingParameters) -> Any:
    """Prepare ``model`` for training: make all weights except excluded modules trainable, or add a float32
    adapter.

    A model that already has an adapter is returned unchanged. A new adapter does not change the model's
    outputs yet.
    """
    set_seed(parameters.seed)
    if isinstance(model, PeftModel):
        return model
    if parameters.adapter == "None":
        for part in parameters.excluded_modules or []:
            model.get_submodule(part).requires_grad_(False)
        return model
    tuned = add_adapter(model, parameters)
    tuned.peft_config["default"].base_model_name_or_path = hub_name(base.uri)
    tuned.peft_config["default"].revision = base.revision
    return tuned


def score_start(
    context: Context,
    stage: StagePlan,
    start: Start,
    model: Any,
    *,
    tokenizer: PreTrainedTokenizerBase,
    sets: Sequence[EvaluationSet],
    ranks: Ranks,
    shards: Shards | None = None,
) -> list[SetResult]:
    """Return the results of the starting model on ``sets``. ``shards`` is how ``model`` is sharded, if it is.

    Cached results of the base model, or results of the previous stage's checkpoint, are used if available.
    """
    parameters, measured = stage.parameters, start.measured
    with evaluation_precision(model.device, whole=parameters.adapter == "None"):
        if stage.starts_from is None:
            # Results in bfloat16 differ slightly from float32, so they have their own cache key.
            dtype = "bfloat16 of float32" if shards and shards.in_bfloat16 else parameters.dtype
            base = context.plan.model.digest
            cache = BaselineCache(context, base, dtype, model.device, parameters.quantization)
            return cache.evaluate(model, tokenizer, sets, ranks)
        if measured is not None:
            found = ranks.broadcast(lambda: [read_cases(measured / each.file) for each in sets])
            if all(found):
                return [scores for scores in found if scores]
        return evaluate(model, tokenizer, sets, ranks)
