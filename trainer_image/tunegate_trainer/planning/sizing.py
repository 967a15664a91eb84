"""Estimate the memory of each stage, and choose passes that fit the requested GPU, before a GPU is
allocated."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.plan import StagePlan, TrainingParameters
from tunegate_api.contract.request import Request
from tunegate_api.contract.shapes import Accelerator, GenerationBatch, ModelShape, Pass
from tunegate_api.memory.block import Block
from tunegate_api.memory.estimate import estimate
from tunegate_api.memory.fitting import LargestPasses, fit, sharding
from tunegate_api.v1alpha2.pods import quantity_value
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.evaluate.sets import GeneratedSet, task_generation
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
    rows: Sequence[UsableRow[Row]],
    pairs: Sequence[UsableRow[Pair]],
    batches: Sequence[GenerationBatch],
) -> list[StagePlan]:
    """Return the stages with memory estimates. If the planned number of tokens per pass does not fit
    ``resources.gpu.memory``, passes have fewer tokens, or activations are recomputed.

    ``batches`` are the largest batches of the evaluations, see :func:`generation_batches`. If a single
    example does not fit, the estimate is that of a pass with this example.
    """
    shares_prompts = request.spec.resources.accelerator == "CPU" and model.sees_all_before

    size, processes = gpu_bytes(request), request.spec.resources.processes

    def fitted(stage: StagePlan) -> StagePlan:
        parameters = stage.parameters
        share = parameters.batch_size // processes
        if parameters.method == "SFT":
            largest, mean = largest_of_rows(rows, share), _mean_tokens(rows)
        else:
            shares = shares_prompts and not parameters.lora_dropout
            largest = largest_of_pairs(tokenizer, pairs, share, shares_prompts=shares)
            mean = _mean_tokens(pairs)
        *_, least = largest(1)
        estimated = partial(with_estimate, request, model=model, least=least, batches=batches)
        if size is None:
            sized = [estimated(stage, largest=one) for one in largest(parameters.pass_tokens)]
            return max(sized, key=lambda one: one.memory.total if one.memory else 0)
        found = fit(
            model,
            stage,
            size,
            processes=processes,
            largest=largest,
            mean_tokens=mean,
            generation=_largest_generation(model, parameters, least, batches, "GPU"),
        )
        if found is None:
            return estimated(stage, largest=least)
        parameters = parameters.model_copy(update={"pass_tokens": found.pass_tokens})
        changed = stage.model_copy(update={"parameters": parameters})
        return estimated(changed, largest=found.largest, checkpointing=found.checkpointing)

    return [fitted(stage) for stage in stages]


def _mean_tokens(measured: Sequence[UsableRow[RowT]]) -> float:
    return sum(one.tokens for one in measured) / len(measured) if measured else 0.0


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
    *,
    largest: Pass,
    least: Pass | None = None,
    batches: Sequence[GenerationBatch] = (),
    checkpointing: bool | None = None,
) -> StagePlan:
    """Return the stage with the memory estimate for its ``largest`` pass.

    ``least`` is the largest pass with a single row or pair, by default the same. ``batches`` are the largest
    batches of prompts in the stage's evaluations. Without ``checkpointing``, the trainer decides whether
    activations are recomputed, and the estimate for a GPU assumes it.
    """
    resources = request.spec.resources
    generation = _largest_generation(model, stage.parameters, largest, batches, resources.accelerator)
    memory = estimate(
        model,
        stage.parameters,
        largest,
        accelerator=resources.accelerator,
        generation=generation,
        checkpointing=checkpointing,
        sharding=sharding(stage, resources.processes),
    )
    return stage.model_copy(
        update={
            "largest_pass": largest,
            "least_pass": least or largest,
            "activation_checkpointing": checkpointing,
            "largest_generation": generation,
            "memory": memory,
        }
    )


def gpu_bytes(request: Request) -> int | None:
    """Return ``resources.gpu.memory`` in bytes, or None if it is not set."""
    gpu = request.spec.resources.gpu
    return int(quantity_value(gpu.memory)) if gpu and gpu.memory else None


def largest_of_rows(rows: Sequence[UsableRow[Row]], share: int) -> LargestPasses:
    """Return a function for the largest passes of steps with ``share`` rows. Shared prefixes are ignored,
    because not every pass has them."""
    lengths = sorted((row.tokens for row in rows), reverse=True)[:share]
    units = [_Unit([length], [(length, length)]) for length in lengths]
    return _largest(units, rows, share)


def largest_of_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[UsableRow[Pair]], share: int, *, shares_prompts: bool
) -> LargestPasses:
    """Return a function for the largest passes of steps with ``share`` pairs. With ``shares_prompts``, the
    prompt of a pair is computed only once."""
    ordered = sorted(pairs, key=lambda pair: -pair.tokens - (pair.learned if shares_prompts else 0))
    units = []
    for pair in ordered[:share]:
        both = examples_of(tokenizer, pair.labelled.row)
        lengths = [len(one["input_ids"]) for one in both]
        units.append(_Unit(lengths, segment_sizes(both) if shares_prompts else [(n, n) for n in lengths]))
    return _largest(units, pairs, share)


@dataclass(frozen=True)
class _Unit:
    """A row or pair, which is always computed in one pass."""

    lengths: Sequence[int]
    """The length of each example in tokens."""
    segments: Sequence[tuple[int, int]]
    """The segments that are computed, see :meth:`tunegate_api.contract.shapes.Pass.of`."""

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


def _largest(units: Sequence[_Unit], measured: Sequence[UsableRow[RowT]], share: int) -> LargestPasses:
    """Return a function for the largest passes of steps with ``share`` of the ``measured`` rows or pairs.
    ``units`` are the largest ones, in descending order."""
    copies = math.ceil(share / len(measured))  # a step with more rows than there are has rows several times
    in_step = [unit for unit in units for _ in range(copies)][:share]
    most_learned = sorted((one.learned for one in measured for _ in range(copies)), reverse=True)[:share]
    densest = sorted(measured, key=lambda one: one.learned / one.tokens, reverse=True)

    def learned(most: int) -> int:
        """Return an upper bound on the labelled tokens of a pass with ``most`` tokens. The rows with the most
        labelled tokens are not always the longest, because a long answer may have a short prompt."""
        found, left = 0.0, most
        for one in (one for one in densest for _ in range(copies)):
            found += one.learned * min(1.0, left / one.tokens)
            left -= one.tokens
            if left <= 0:
                break
        return min(math.ceil(found), sum(most_learned))

    def of(most: int) -> list[Pass]:
        chosen, left = [], most
        for unit in in_step:
            if unit.tokens > left:
                # The rest of the pass: two examples with as many tokens as there is space for.
                halves = [half for half in (left // 2, left - left // 2) if half]
                chosen.append(_Unit(halves, [(half, half) for half in halves]))
                break
            chosen.append(unit)
            left -= unit.tokens
        lengths = [length for unit in chosen for length in unit.lengths]
        segments = [segment for unit in chosen for segment in unit.segments]
        passes = [Pass.of(lengths, learned(sum(lengths)), segments)]
        if in_step[0].tokens > most:
            passes.append(Pass.of(in_step[0].lengths, most_learned[0], in_step[0].segments))
        return passes

    return of


def generation_batches(
    request: Request,
    tokenizer: PreTrainedTokenizerBase,
    dev: Sequence[UsableRow[Row]],
    golden: Iterable[GeneratedSet],
) -> list[GenerationBatch]:
    """Return one batch for each evaluation set that has prompts. This batch needs at least as much memory as
    each real batch of the set."""
    generated = [(one.generation, [len(encode(tokenizer, c.prompt)) for c in one.cases]) for one in golden]
    generated.append((task_generation(request), [r.tokens for r in dev]))
    return [
        GenerationBatch(
            prompts=min(generation.batch_size, len(prompts)),
            longest=max(prompts),
            new_tokens=generation.max_new_tokens,
        )
        for generation, prompts in generated
        if prompts
    ]
