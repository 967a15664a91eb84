"""Choose the examples per forward pass that fit the GPU, and reduce them if a pass does not fit it."""

import logging
from pathlib import Path

from tunegate_api.memory.fitting import fit
from tunegate_api.memory.shapes import Pass
from tunegate_api.plan import ModelPlan, StagePlan
from tunegate_trainer.process.errors import CudaOutOfMemoryError
from tunegate_trainer.process.files import write_atomic

logger = logging.getLogger(__name__)

CHECKPOINTING_FROM = 1_000_000_000
"""Number of parameters from which activation checkpointing is used if nothing is known about the memory of a
stage."""
FILE = "micro-batch"
"""Name of the file with the reduced number of examples per pass, with which a later attempt starts."""


class MicroBatchTooLargeError(Exception):
    """A forward or backward pass did not fit the memory of the GPU."""


def fitted(stage: StagePlan, model: ModelPlan, gpu_bytes: int | None, processes: int = 1) -> StagePlan:
    """Return the stage with the examples per pass and the activation checkpointing that fit a GPU with
    ``gpu_bytes``, if the data role has not decided about them, because it did not know the GPU.

    ``gpu_bytes`` is None on a CPU: the stage is then returned unchanged.
    """
    if gpu_bytes is None or stage.activation_checkpointing is not None:
        return stage
    largest, parameters = stage.largest_pass, stage.parameters
    if model.shape is None or largest is None:
        return stage.model_copy(update={"activation_checkpointing": model.parameters >= CHECKPOINTING_FROM})
    found = fit(
        model.shape,
        stage,
        gpu_bytes,
        processes=processes,
        largest=lambda size: _part(largest, size, parameters.micro_batch_size),
        generation=stage.largest_generation,
    )
    size = found.micro_batch_size if found else 1
    logger.info(
        "%d examples per pass, activations are %s",
        size,
        "kept" if found and not found.checkpointing else "recomputed",
    )
    return stage.model_copy(
        update={
            "activation_checkpointing": found is None or found.checkpointing,
            "parameters": parameters.model_copy(update={"micro_batch_size": size}),
        }
    )


def _part(largest: Pass, size: int, planned: int) -> Pass:
    """Return a pass with ``size`` instead of ``planned`` rows or pairs that needs at least as much memory as
    each such pass of the stage, given the ``largest`` pass of the planned size."""
    examples, longest = size * largest.examples // planned, largest.longest
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
    """Return the plan with the number of examples per pass that was stored in ``folder``, or else the
    unchanged plan."""
    try:
        size = int((folder / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return stage
    parameters = stage.parameters.model_copy(update={"micro_batch_size": size})
    return stage.model_copy(update={"parameters": parameters})


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
    write_atomic(folder / FILE, f"{smaller[-1]}\n")
