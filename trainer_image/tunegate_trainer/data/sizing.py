"""Whether each stage fits the GPU that it would get, before one is asked for."""

from collections.abc import Callable, Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import Request
from tunegate_api.memory.estimate import estimate
from tunegate_api.memory.fitting import (
    KEPT_FREE,
    by_part,
    fits,
    hint,
    needed,
    shards,
    size_text,
)
from tunegate_api.memory.shapes import GenerationBatch, ModelShape, Pass
from tunegate_api.plan import StagePlan, TrainingParameters
from tunegate_api.v1alpha1.pods import quantity_value
from tunegate_trainer.chat import encode
from tunegate_trainer.data.split import Split
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.errors import GpuTooSmallError
from tunegate_trainer.evaluate.sets import GeneratedSet, task_generation
from tunegate_trainer.examples import Example, completion_tokens, tokenize_pairs, tokenize_rows
from tunegate_trainer.rows import Pair, Row

LargestPass = Callable[[int], Pass]
"""The pass of so many rows or pairs that needs most."""


def with_memory(
    request: Request,
    stages: Sequence[StagePlan],
    model: ModelShape,
    tokenizer: PreTrainedTokenizerBase,
    *,
    rows: Split[Measured[Row]],
    pairs: Sequence[Measured[Pair]],
    golden: Iterable[GeneratedSet],
) -> list[StagePlan]:
    """The stages with what they need, each with as many examples a pass as fit ``resources.gpu.memory``.

    Raises :class:`GpuTooSmallError` where one example alone does not.
    """
    generation = _largest_generation(request, tokenizer, rows.dev, golden)
    largest = {"SFT": _largest_of_rows(tokenizer, rows.train), "DPO": _largest_of_pairs(tokenizer, pairs)}
    return [_fitted(request, one, model, largest[one.parameters.method], generation) for one in stages]


def _fitted(
    request: Request,
    stage: StagePlan,
    model: ModelShape,
    largest: LargestPass,
    generation: GenerationBatch | None,
) -> StagePlan:
    sized = stage
    for size in _micro_batches(stage.parameters, request.spec.resources.processes):
        sized = with_estimate(request, stage, model, size, largest=largest(size), generation=generation)
        if not is_too_small(request, sized):
            return sized
    raise too_small(request, sized, model)


def with_estimate(
    request: Request,
    stage: StagePlan,
    model: ModelShape,
    micro_batch_size: int,
    *,
    largest: Pass,
    generation: GenerationBatch | None,
) -> StagePlan:
    """The stage with so many examples a pass, and what it then needs."""
    parameters = stage.parameters.model_copy(update={"micro_batch_size": micro_batch_size})
    asked = request.spec.resources
    memory = estimate(
        model,
        parameters,
        largest,
        accelerator=asked.accelerator,
        generation=generation,
        shards=shards(stage, asked.processes),
    )
    return stage.model_copy(
        update={
            "parameters": parameters,
            "largest_pass": largest,
            "largest_generation": generation,
            "memory": memory,
        }
    )


def is_too_small(request: Request, stage: StagePlan) -> bool:
    """Whether the GPU that is asked for cannot hold a stage, as far as both are known."""
    size = _gpu_bytes(request)
    return size is not None and stage.memory is not None and not fits(stage.memory, size)


def too_small(request: Request, stage: StagePlan, model: ModelShape) -> GpuTooSmallError:
    """The arithmetic of a stage that does not fit, and what would help."""
    size, memory, largest = _gpu_bytes(request), stage.memory, stage.largest_pass
    if size is None or memory is None or largest is None:
        raise ValueError(f"nothing says that stage {stage.name} is too small")
    return GpuTooSmallError(
        f"stage {stage.name} does not fit resources.gpu.memory, {size_text(size)}, by an estimate: "
        f"{by_part(memory)}, with one example of {largest.longest} tokens a pass; with "
        f"{KEPT_FREE} kept free it needs {size_text(needed(memory))}",
        hint(
            model,
            stage.parameters,
            largest,
            stage.largest_generation,
            size,
            shards=shards(stage, request.spec.resources.processes),
        ),
    )


def _gpu_bytes(request: Request) -> int | None:
    gpu = request.spec.resources.gpu
    return int(quantity_value(gpu.memory)) if gpu and gpu.memory else None


def _micro_batches(planned: TrainingParameters, processes: int) -> list[int]:
    """Sizes to try, the planned one first: those by which each process's share of a batch is divided."""
    sizes = range(planned.micro_batch_size, 0, -1)
    return [size for size in sizes if planned.batch_size % (size * processes) == 0]


def _largest_of_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Measured[Row]]) -> LargestPass:
    ordered = sorted(rows, key=lambda row: -row.tokens)

    def of(count: int) -> Pass:
        longest = ordered[:count]
        return _pass(tokenize_rows(tokenizer, [row.labelled.row for row in longest], longest[0].tokens))

    return of


def _largest_of_pairs(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Measured[Pair]]) -> LargestPass:
    ordered = sorted(pairs, key=lambda pair: -pair.tokens)

    def of(count: int) -> Pass:
        longest = ordered[:count]
        both = tokenize_pairs(tokenizer, [pair.labelled.row for pair in longest], longest[0].tokens)
        return _pass([one for pair in both for one in pair])

    return of


def _pass(examples: Sequence[Example]) -> Pass:
    return Pass.of([len(one["input_ids"]) for one in examples], sum(map(completion_tokens, examples)))


def _largest_generation(
    request: Request,
    tokenizer: PreTrainedTokenizerBase,
    dev: Sequence[Measured[Row]],
    golden: Iterable[GeneratedSet],
) -> GenerationBatch | None:
    """What is at least as large as every batch that an evaluation generates."""
    asked = [(one.generation, [len(encode(tokenizer, c.prompt)) for c in one.cases]) for one in golden]
    asked.append((task_generation([g.spec.generation for g in request.final_gates]), [r.tokens for r in dev]))
    batches = [
        GenerationBatch(
            prompts=min(generation.batch_size, len(prompts)),
            longest=max(prompts),
            new_tokens=generation.max_new_tokens,
        )
        for generation, prompts in asked
        if prompts
    ]
    return max(batches, key=lambda batch: batch.prompts * (batch.longest + batch.new_tokens), default=None)
