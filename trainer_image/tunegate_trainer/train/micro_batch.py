"""Choose the examples per forward pass that fit the GPU, and reduce them if a pass does not fit it."""

import logging
from pathlib import Path

from tunegate_api.memory.fitting import fit, micro_batches
from tunegate_api.memory.shapes import Pass
from tunegate_api.plan import ModelPlan, StagePlan
from tunegate_trainer.process.errors import CudaOutOfMemoryError
from tunegate_trainer.process.files import write_atomic

logger = logging.getLogger(__name__)

CHECKPOINTING_FROM = 1_000_000_000
"""Number of parameters from which activation checkpointing is used if nothing is known about the memory of a
stage."""
TOKENS_IF_UNKNOWN = 1024
"""Target number of tokens per pass if nothing is known about the memory of a stage."""
FILE = "micro-batch"
"""Name of the file with the reduced number of examples per pass, with which a later attempt starts. The word
``recompute`` follows if it also recomputes activations."""
_RECOMPUTE = "recompute"


class MicroBatchTooLargeError(Exception):
    """A forward or backward pass did not fit the memory of the GPU."""


def fitted(
    stage: StagePlan, model: ModelPlan, gpu_bytes: int | None, *, mean_tokens: float, processes: int = 1
) -> StagePlan:
    """Return the stage with the examples per pass and the activation checkpointing that fit a GPU with
    ``gpu_bytes``, if the data role has not decided about them, because it did not know the GPU.

    ``gpu_bytes`` is None on a CPU: the stage is then returned unchanged. ``mean_tokens`` is the mean length
    of a row or pair.
    """
    if gpu_bytes is None or stage.activation_checkpointing is not None:
        return stage
    largest, parameters = stage.largest_pass, stage.parameters
    if model.shape is None or largest is None:
        sizes = micro_batches(parameters, processes)
        size = next((one for one in sizes if one * mean_tokens <= TOKENS_IF_UNKNOWN), 1)
        return _computed(stage, size, recomputes=model.parameters >= CHECKPOINTING_FROM)
    found = fit(
        model.shape,
        stage,
        gpu_bytes,
        processes=processes,
        largest=lambda size: _part(largest, size, parameters.unit),
        mean_tokens=mean_tokens,
        generation=stage.largest_generation,
    )
    size = found.micro_batch_size if found else 1
    logger.info(
        "%d examples per pass, activations are %s",
        size,
        "kept" if found and not found.checkpointing else "recomputed",
    )
    return _computed(stage, size, recomputes=found is None or found.checkpointing)


def _computed(stage: StagePlan, micro_batch_size: int, *, recomputes: bool | None) -> StagePlan:
    parameters = stage.parameters.model_copy(update={"micro_batch_size": micro_batch_size})
    return stage.model_copy(update={"activation_checkpointing": recomputes, "parameters": parameters})


def _part(largest: Pass, size: int, unit: str) -> Pass:
    """Return a pass with ``size`` rows or pairs that needs at least as much memory as each such pass of the
    stage, given its ``largest`` pass."""
    examples = min(largest.examples, size * (2 if unit == "pair" else 1))
    longest = largest.longest
    return largest.model_copy(
        update={
            "examples": examples,
            "tokens": min(examples * longest, largest.tokens),
            "squares": min(examples * longest**2, largest.squares),
            "keys": 0,
            "labelled": min(examples * longest, largest.labelled),
        }
    )


def with_micro_batch(stage: StagePlan, folder: Path) -> StagePlan:
    """Return the stage with the number of examples per pass and the activation checkpointing that were stored
    in ``folder``, unless the stage already needs less memory."""
    try:
        size, *words = (folder / FILE).read_text().split()
        smaller = min(int(size), stage.parameters.micro_batch_size)
    except (FileNotFoundError, ValueError):
        return stage
    return _computed(stage, smaller, recomputes=_RECOMPUTE in words or stage.activation_checkpointing)


def need_less_memory(stage: StagePlan, folder: Path, message: str, processes: int = 1) -> None:
    """Store how the rest of the stage needs less memory than the pass that did not fit: activations are
    recomputed if they were kept, and otherwise passes have fewer examples, see :func:`halve_micro_batch`."""
    if stage.activation_checkpointing is not False:
        halve_micro_batch(stage, folder, message, processes)
        return
    logger.warning("out of GPU memory: continuing with recomputed activations")
    write_atomic(folder / FILE, f"{stage.parameters.micro_batch_size} {_RECOMPUTE}\n")


def memory_hint(stage: StagePlan) -> str:
    """Return a hint on how the stage can use less GPU memory. Options that the stage already uses are left
    out."""
    if stage.parameters.adapter == "None":
        smaller = "train an adapter instead of all weights, "
    elif stage.parameters.quantization is None:
        where = " in the stage that makes the adapter" if stage.starts_from == "Adapter" else ""
        smaller = f"set quantization: NF4{where} to load the base in 4 bits, "
    else:
        smaller = ""
    return f"lower training.maxLength, {smaller}or request a GPU with more memory"


def halve_micro_batch(stage: StagePlan, folder: Path, message: str, processes: int = 1) -> None:
    """Store a reduced number of examples per pass, for the rest of the stage. It is at most half of the
    number that did not fit. The number of examples per optimizer step stays the same.

    With several ``processes``, it is at most a quarter (but at least 1), because each reduction uses one of
    the limited number of attempts. ``message`` is PyTorch's error message. Raises
    :class:`CudaOutOfMemoryError` if a single example did not fit.
    """
    parameters = stage.parameters
    share = parameters.batch_size // processes
    now = parameters.micro_batch_size
    most = now // 2 if processes == 1 else max(now // 4, min(1, now - 1))
    smaller = [n for n in range(1, most + 1) if share % n == 0]
    if not smaller:
        raise CudaOutOfMemoryError(
            f"the GPU is out of memory with one {parameters.unit} per pass: {message}", memory_hint(stage)
        )
    logger.warning("out of GPU memory: continuing with %d examples per pass", smaller[-1])
    words = [str(smaller[-1]), *([_RECOMPUTE] if stage.activation_checkpointing else [])]
    write_atomic(folder / FILE, " ".join(words) + "\n")
