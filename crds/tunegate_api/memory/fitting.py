"""Decide by the memory estimate whether a stage fits on a GPU, and suggest changes if it does not."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunegate_api.contract.plan import StagePlan, TrainingParameters
from tunegate_api.contract.shapes import GenerationBatch, Memory, ModelShape, Pass, Sharding
from tunegate_api.memory.block import BFLOAT16, FLOAT32
from tunegate_api.memory.estimate import estimate

GIB = 2**30
KEPT_FREE_BYTES = GIB
"""Memory that is kept free for the CUDA context and the workspaces of CUDA libraries, which are not
tensors."""
KEPT_FREE_SHARE = 0.05
"""Share of GPU memory that is kept free for fragmentation: gaps between tensors that the allocator cannot
use."""
KEPT_FREE = f"{KEPT_FREE_BYTES // GIB} GiB and {100 * KEPT_FREE_SHARE:.0f} %"
"""The memory that is kept free on a GPU, as text."""
CARDS = (16, 24, 40, 80)
"""Common sizes of GPU memory, in GB of 10^9 bytes."""
LARGEST_GPU = 288 * 10**9
"""Memory in bytes of the largest GPU from NVIDIA. B300 and GB300 have 288 GB, see the support matrix of
NVIDIA's NIM for vision language models, version 2.0.11."""
ENOUGH_TOKENS = 2048
"""Number of tokens in a usual pass from which larger passes are hardly faster on a GPU, so that recomputing
activations for a larger pass is not worth its time: it takes a third to half as much time again. A pass of
2,048 tokens computes 2,048 operations for each byte of bfloat16 weights that it reads, several times as many
as a GPU computes while it reads a byte."""
_SHOWN = 0.01
"""Minimum share of the total memory that a part must have to be shown."""
_DEFAULT_RANK = 16
_SMALL_RANK = 8


def needed(memory: Memory) -> int:
    """Return the memory in bytes that a GPU must have for a stage that needs ``memory``, including the
    reserve that is kept free."""
    return round((memory.total + KEPT_FREE_BYTES) / (1 - KEPT_FREE_SHARE))


def fits(memory: Memory, gpu_bytes: int) -> bool:
    return needed(memory) <= gpu_bytes


def smallest_card(memory: Memory) -> int | None:
    """Return the smallest of ``CARDS`` on which a stage that needs ``memory`` fits, in GB. Returns None if
    the stage fits on none of them."""
    return next((card for card in CARDS if fits(memory, card * 10**9)), None)


def size_text(size: int) -> str:
    """Format a size as ``16.2 GiB``, or as ``310 MiB`` below 1 GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"


def by_part(memory: Memory) -> str:
    """Return the memory of a stage as a sum: "weights 13.5 GiB + … = 16.2 GiB". Small parts are not shown,
    but included in the sum."""
    parts = {"weights": memory.weights, "adapter": memory.adapter, "optimizer": memory.optimizer}
    training = {"gradients": memory.gradients, "activations": memory.activations, "logits": memory.logits}
    is_evaluation = memory.evaluation > sum(training.values())
    parts |= {"evaluation": memory.evaluation} if is_evaluation else training
    shown = [f"{name} {size_text(size)}" for name, size in parts.items() if size >= _SHOWN * memory.total]
    return f"{' + '.join(shown)} = {size_text(memory.total)}"


LargestPasses = Callable[[int], Sequence[Pass]]
"""A function that takes the maximum number of tokens per pass. It returns the forward passes of which one
needs the most memory: a pass with this number of tokens and, if a row or pair is longer, a pass with this row
or pair alone."""


@dataclass(frozen=True)
class Fit:
    """How the passes of a stage are computed."""

    pass_tokens: int
    """Maximum number of tokens per pass, see :class:`~tunegate_api.contract.plan.TrainingParameters`."""
    checkpointing: bool
    """Whether activations are recomputed, see :func:`~tunegate_api.memory.estimate.estimate`."""
    largest: Pass
    memory: Memory


def fit(
    model: ModelShape,
    stage: StagePlan,
    gpu_bytes: int,
    *,
    processes: int,
    largest: LargestPasses,
    mean_tokens: float,
    generation: GenerationBatch | None = None,
) -> Fit | None:
    """Return the fastest way to compute the passes of a stage that fits a GPU with ``gpu_bytes``: the largest
    passes up to the planned number of tokens, and activation checkpointing only where passes would be small
    without it. ``mean_tokens`` is the mean length of a row or pair. Returns None if the longest row or pair
    does not fit alone."""
    planned, share = stage.parameters.pass_tokens, stage.parameters.batch_size // processes

    def computed(tokens: int, checkpointing: bool) -> Fit:
        options = (
            Fit(
                tokens,
                checkpointing,
                one,
                estimate(
                    model,
                    stage.parameters,
                    one,
                    accelerator="GPU",
                    generation=generation,
                    checkpointing=checkpointing,
                    sharding=sharding(stage, processes),
                ),
            )
            for one in largest(tokens)
        )
        return max(options, key=lambda found: found.memory.total)

    def largest_fit(checkpointing: bool) -> Fit | None:
        found = computed(planned, checkpointing)
        if fits(found.memory, gpu_bytes):
            return found
        sizes = range(1, planned)
        fitting = bisect_left(
            sizes, True, key=lambda size: not fits(computed(size, checkpointing).memory, gpu_bytes)
        )
        return computed(sizes[fitting - 1], checkpointing) if fitting else None

    def usual(found: Fit) -> float:
        return usual_tokens(share, mean_tokens, found.pass_tokens)

    kept, recomputed = largest_fit(False), largest_fit(True)
    if kept is None or recomputed is None:
        return kept or recomputed
    return kept if usual(kept) >= min(ENOUGH_TOKENS, usual(recomputed)) else recomputed


def usual_tokens(share: int, mean_tokens: float, pass_tokens: int) -> float:
    """Return the number of tokens in a usual pass of a rank that computes ``share`` rows or pairs of
    ``mean_tokens`` in each optimizer step, with at most ``pass_tokens`` in a pass."""
    in_step = share * mean_tokens
    passes = min(share, math.ceil(in_step / pass_tokens))
    return in_step / max(1, passes)


@dataclass(frozen=True)
class Remedy:
    """A change of a stage that reduces the memory of the stage."""

    change: str
    """The change as written in a spec: ``quantization: NF4``."""
    memory: Memory


def sharding(stage: StagePlan, processes: int) -> Sharding | None:
    """Return how FSDP shards a stage over ``processes``, or None if the stage does not use FSDP."""
    if stage.parallelism != "FSDP":
        return None
    return Sharding(processes, FLOAT32 if stage.gathered_dtype == "float32" else BFLOAT16)


def least_memory(model: ModelShape, stage: StagePlan, processes: int = 1) -> Memory | None:
    """Return the least memory with which a stage runs on a GPU: that with one row or pair per pass and
    recomputed activations. Returns None if the passes of the stage are not known."""
    least = stage.least_pass
    if least is None:
        return None
    generation, among = stage.largest_generation, sharding(stage, processes)
    return estimate(model, stage.parameters, least, accelerator="GPU", generation=generation, sharding=among)


def remedies(model: ModelShape, stage: StagePlan, processes: int = 1) -> Iterator[Remedy]:
    """Yield single changes of the stage that reduce its :func:`least_memory` on each GPU, beginning with the
    smallest change. Yields nothing if the passes of the stage are not known."""
    least, generation = stage.least_pass, stage.largest_generation
    if least is None:
        return
    parameters, among = stage.parameters, sharding(stage, processes)
    now = estimate(model, parameters, least, accelerator="GPU", generation=generation, sharding=among)
    if generation and generation.prompts > 1:
        half = generation.model_copy(update={"prompts": generation.prompts // 2})
        memory = estimate(model, parameters, least, accelerator="GPU", generation=half, sharding=among)
        if memory.total < now.total:
            yield Remedy(f"evaluation.batchSize: {half.prompts}", memory)
    for change, update, smaller in _changes(parameters, least, continues=stage.starts_from == "Adapter"):
        changed = parameters.model_copy(update=update)
        each = among if changed.adapter == "None" else None  # each rank has the whole base of an adapter
        memory = estimate(model, changed, smaller, accelerator="GPU", generation=generation, sharding=each)
        if memory.total < now.total:
            yield Remedy(change, memory)


def _changes(
    stage: TrainingParameters, largest: Pass, *, continues: bool
) -> Iterator[tuple[str, dict[str, Any], Pass]]:
    """Yield possible changes of a stage: the change as text, the updated parameters, and the new largest
    pass.

    If a stage ``continues`` an adapter, quantization and rank must be changed in the stage that started the
    adapter, and the text names that stage.
    """
    where = " in the stage that makes the adapter" if continues else ""
    for change, update in smaller_weights(stage):
        yield change if stage.adapter == "None" else f"{change}{where}", update, largest
    if (stage.lora_r or 0) > _SMALL_RANK:
        yield f"adapter.r: {_SMALL_RANK}{where}", {"lora_r": _SMALL_RANK}, largest
    if largest.longest > 1:
        half = largest.longest // 2
        yield f"training.maxLength: {half}", {"max_length": half}, _shortened(largest, half)


def smaller_weights(stage: TrainingParameters) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield changes of a stage that reduce the memory of its weights: the change as text, and the updated
    parameters."""
    adapter = {
        "adapter": "LoRA",
        "lora_r": _DEFAULT_RANK,
        "lora_dropout": 0.0,
        "target_modules": ["all-linear"],
        "dtype": "bfloat16",
    }
    if stage.adapter == "None":
        yield "adapter: {type: LoRA}", adapter
        yield "adapter: {type: LoRA} with quantization: NF4", {**adapter, "quantization": "NF4"}
    elif stage.quantization is None:
        yield "quantization: NF4", {"quantization": "NF4"}


def _shortened(largest: Pass, longest: int) -> Pass:
    """Return a pass with as many examples as ``largest``, but each at most ``longest`` tokens long, and with
    the same share of tokens with loss."""
    each = min(longest, largest.tokens // largest.examples)
    labelled = largest.labelled * each * largest.examples // largest.tokens
    return Pass.of([each] * largest.examples, labelled)


def hint(model: ModelShape, stage: StagePlan, memory: Memory, gpu_bytes: int, processes: int = 1) -> str:
    """Return advice for a stage that needs ``memory`` and does not fit: changes, and how much memory each
    change saves."""
    return hint_of(remedies(model, stage, processes), memory, gpu_bytes)


def hint_of(changes: Iterable[Remedy], memory: Memory, gpu_bytes: int) -> str:
    """Return advice for a job that needs ``memory`` and does not fit: ``changes``, how much memory each of
    them saves, and the GPU that is needed without them."""
    texts = []
    for remedy in changes:
        saved = size_text(memory.total - remedy.memory.total)
        enough = "fits" if fits(remedy.memory, gpu_bytes) else f"not enough, {size_text(remedy.memory.total)}"
        texts.append(f"{remedy.change} (saves {saved}: {enough})")
    exists = needed(memory) <= LARGEST_GPU
    texts.append(f"a GPU of {size_text(needed(memory))}" if exists else "a smaller model")
    return f"one of: {'; '.join(texts)}" if len(texts) > 1 else f"use {texts[0]}"
