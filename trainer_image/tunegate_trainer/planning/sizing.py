"""Estimate whether each stage fits the requested GPU, before a GPU is allocated."""

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import Request
from tunegate_api.memory.block import Block
from tunegate_api.memory.estimate import estimate, judging
from tunegate_api.memory.fitting import (
    KEPT_FREE,
    LargestPass,
    by_part,
    fit,
    fits,
    hint,
    needed,
    shards,
    size_text,
)
from tunegate_api.memory.shapes import Accelerator, GenerationBatch, ModelShape, Pass
from tunegate_api.plan import Plan, StagePlan, TrainingParameters
from tunegate_api.v1alpha1.pods import quantity_value
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.evaluate.sets import GeneratedSet, task_generation
from tunegate_trainer.process.errors import GpuTooSmallError
from tunegate_trainer.tokens.chat import encode
from tunegate_trainer.tokens.examples import examples_of
from tunegate_trainer.tokens.rows import Pair, Row, RowT
from tunegate_trainer.tokens.shared_prefix import segment_sizes


def with_memory(
    request: Request,
    stages: Sequence[StagePlan],
    model: ModelShape,
    tokenizer: PreTrainedTokenizerBase,
    *,
    rows: Sequence[Measured[Row]],
    pairs: Sequence[Measured[Pair]],
    batches: Sequence[GenerationBatch],
) -> list[StagePlan]:
    """Return the stages with memory estimates. If the planned examples per pass do not fit
    ``resources.gpu.memory``, fewer are used, or activations are recomputed.

    ``batches`` are the largest batches of the evaluations, see :func:`generation_batches`. Raises
    :class:`GpuTooSmallError` if a single example does not fit.
    """
    of_rows = _largest_of_rows(rows)
    shares_prompts = request.spec.resources.accelerator == "CPU" and model.sees_all_before

    def largest(parameters: TrainingParameters) -> LargestPass:
        if parameters.method == "SFT":
            return of_rows
        return _largest_of_pairs(
            tokenizer, pairs, shares_prompts=shares_prompts and not parameters.lora_dropout
        )

    means = {"SFT": _mean_tokens(rows), "DPO": _mean_tokens(pairs)}
    return [
        _fitted(
            request, one, model, largest(one.parameters), batches, mean_tokens=means[one.parameters.method]
        )
        for one in stages
    ]


def _mean_tokens(measured: Sequence[Measured[RowT]]) -> float:
    return sum(one.tokens for one in measured) / len(measured) if measured else 0.0


def _fitted(
    request: Request,
    stage: StagePlan,
    model: ModelShape,
    largest: LargestPass,
    batches: Sequence[GenerationBatch],
    *,
    mean_tokens: float,
) -> StagePlan:
    planned, gpu_bytes = stage.parameters.micro_batch_size, _gpu_bytes(request)
    if gpu_bytes is None:
        return with_estimate(
            request, stage, model, planned, largest=largest(planned), least=largest(1), batches=batches
        )
    found = fit(
        model,
        stage,
        gpu_bytes,
        processes=request.spec.resources.processes,
        largest=largest,
        mean_tokens=mean_tokens,
        generation=_largest_generation(model, stage.parameters, largest(1), batches, "GPU"),
    )
    if found is None:
        least = with_estimate(request, stage, model, 1, largest=largest(1), batches=batches)
        raise too_small_error(request, least, model)
    return with_estimate(
        request,
        stage,
        model,
        found.micro_batch_size,
        largest=found.largest,
        least=largest(1),
        batches=batches,
        checkpointing=found.checkpointing,
    )


def _largest_generation(
    model: ModelShape,
    parameters: TrainingParameters,
    largest: Pass,
    batches: Sequence[GenerationBatch],
    accelerator: Accelerator,
) -> GenerationBatch | None:
    """Return the batch that needs the most memory, or None if there are none."""
    block = Block(model, parameters, largest, accelerator)
    return max(batches, key=block.generating, default=None)


def with_estimate(
    request: Request,
    stage: StagePlan,
    model: ModelShape,
    micro_batch_size: int,
    *,
    largest: Pass,
    least: Pass | None = None,
    batches: Sequence[GenerationBatch] = (),
    checkpointing: bool | None = None,
) -> StagePlan:
    """Return the stage with ``micro_batch_size`` examples per pass, and with the memory estimate for it.

    ``largest`` is the largest pass with these examples, and ``least`` the one with a single row or pair, by
    default the same. ``batches`` are the largest batches of prompts in the stage's evaluations. Without
    ``checkpointing``, the trainer decides whether activations are recomputed, and the estimate for a GPU
    assumes it.
    """
    parameters = stage.parameters.model_copy(update={"micro_batch_size": micro_batch_size})
    resources = request.spec.resources
    generation = _largest_generation(model, parameters, largest, batches, resources.accelerator)
    memory = estimate(
        model,
        parameters,
        largest,
        accelerator=resources.accelerator,
        generation=generation,
        checkpointing=checkpointing,
        shards=shards(stage, resources.processes),
    )
    return stage.model_copy(
        update={
            "parameters": parameters,
            "largest_pass": largest,
            "least_pass": least or largest,
            "activation_checkpointing": checkpointing,
            "largest_generation": generation,
            "memory": memory,
        }
    )


def is_too_small(request: Request, stage: StagePlan) -> bool:
    """Return whether a stage does not fit the requested GPU. Returns False if the GPU's memory or the stage's
    memory estimate is unknown."""
    size = _gpu_bytes(request)
    return size is not None and stage.memory is not None and not fits(stage.memory, size)


def with_gate_memory(request: Request, plan: Plan, batches: Sequence[GenerationBatch], stored: str) -> Plan:
    """Return the plan with the memory estimate of the gate, if the shape of the model is known.

    ``stored`` is the dtype of the base model's stored weights. Raises :class:`GpuTooSmallError` if the gate
    does not fit ``resources.gpu.memory``, because a model that cannot be evaluated would be trained for
    nothing.
    """
    last, resources = plan.stages[-1], request.spec.resources
    if plan.model.shape is None:
        return plan
    whole = stored if resources.accelerator == "GPU" else last.parameters.dtype
    memory = judging(
        plan.model.shape,
        last.parameters,
        batches,
        accelerator=resources.accelerator,
        whole=whole if _is_whole(request, plan, last) else None,
    )
    size = _gpu_bytes(request)
    if size is not None and not fits(memory, size):
        as_adapter = (
            "remove mergeAdapter so that the adapter is evaluated on the base that it was trained on, "
            if request.spec.merge_adapter and not _is_whole_without_merging(plan, last)
            else ""
        )
        raise GpuTooSmallError(
            f"the final gate needs an estimated {size_text(needed(memory))} to evaluate the result of "
            f"stage {last.name}, but resources.gpu.memory is {size_text(size)}: {by_part(memory)}, plus "
            f"{KEPT_FREE} kept free",
            f"lower generation.batchSize of the EvalGate, {as_adapter}or request a GPU with "
            f"{size_text(needed(memory))}",
        )
    return plan.model_copy(update={"judging": memory})


def _is_whole(request: Request, plan: Plan, last: StagePlan) -> bool:
    """Return whether the artifact that the gate role builds contains all weights."""
    return request.spec.merge_adapter or _is_whole_without_merging(plan, last)


def _is_whole_without_merging(plan: Plan, last: StagePlan) -> bool:
    """Return whether the artifact contains all weights even without ``mergeAdapter``."""
    is_adapter = last.parameters.adapter != "None" and plan.based_on(last.name).starts_from is None
    return not is_adapter or plan.model.is_merged


def too_small_error(request: Request, stage: StagePlan, model: ModelShape) -> GpuTooSmallError:
    """Return the error for a stage that does not fit the GPU. The error has the memory of each part and a
    hint."""
    size, memory, largest = _gpu_bytes(request), stage.memory, stage.largest_pass
    if size is None or memory is None or largest is None:
        raise ValueError(f"stage {stage.name} has no memory estimate or no GPU memory to compare it with")
    return GpuTooSmallError(
        f"stage {stage.name} needs an estimated {size_text(needed(memory))}, but resources.gpu.memory is "
        f"{size_text(size)}: {by_part(memory)} for one {stage.parameters.unit} of {largest.longest} tokens "
        f"per pass, plus {KEPT_FREE} kept free",
        hint(model, stage, memory, size, request.spec.resources.processes),
    )


def _gpu_bytes(request: Request) -> int | None:
    gpu = request.spec.resources.gpu
    return int(quantity_value(gpu.memory)) if gpu and gpu.memory else None


def _largest_of_rows(rows: Sequence[Measured[Row]]) -> LargestPass:
    """Return a function for the largest pass of rows. Shared prefixes are ignored, because not every pass has
    them."""
    lengths = sorted((row.tokens for row in rows), reverse=True)
    return lambda count: Pass.of(lengths[:count], _most_learned(rows, count))


def _largest_of_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Measured[Pair]], *, shares_prompts: bool
) -> LargestPass:
    """Return a function for the largest pass of pairs. With ``shares_prompts``, the prompt of a pair is
    computed only once."""
    ordered = sorted(pairs, key=lambda pair: -pair.tokens - (pair.learned if shares_prompts else 0))

    def of(count: int) -> Pass:
        longest = [examples_of(tokenizer, pair.labelled.row) for pair in ordered[:count]]
        lengths = [len(one["input_ids"]) for both in longest for one in both]
        parts = [size for both in longest for size in segment_sizes(both)] if shares_prompts else ()
        return Pass.of(lengths, _most_learned(pairs, count), parts)

    return of


def _most_learned(rows: Sequence[Measured[RowT]], count: int) -> int:
    """Return the largest number of labelled tokens that ``count`` of the rows or pairs have together.

    The rows with the most labelled tokens are not always the longest, because a long answer may have a short
    prompt.
    """
    return sum(sorted((row.learned for row in rows), reverse=True)[:count])


def generation_batches(
    request: Request,
    tokenizer: PreTrainedTokenizerBase,
    dev: Sequence[Measured[Row]],
    golden: Iterable[GeneratedSet],
) -> list[GenerationBatch]:
    """Return one batch for each evaluation set that has prompts. This batch needs at least as much memory as
    each real batch of the set."""
    generated = [(one.generation, [len(encode(tokenizer, c.prompt)) for c in one.cases]) for one in golden]
    generated.append(
        (task_generation([g.spec.generation for g in request.final_gates]), [r.tokens for r in dev])
    )
    return [
        GenerationBatch(
            prompts=min(generation.batch_size, len(prompts)),
            longest=max(prompts),
            new_tokens=generation.max_new_tokens,
        )
        for generation, prompts in generated
        if prompts
    ]
