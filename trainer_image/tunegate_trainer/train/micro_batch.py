"""Examples of one forward pass: fewer than planned, once as many did not fit the GPU."""

import logging
from pathlib import Path

from tunegate_api.plan import StagePlan
from tunegate_trainer.process.errors import CudaOutOfMemoryError
from tunegate_trainer.process.files import write_atomic

logger = logging.getLogger(__name__)

FILE = "micro-batch"
"""The number that a later attempt begins with."""


class MicroBatchTooLargeError(Exception):
    """A forward or a backward pass did not fit the memory of the GPU."""


def with_micro_batch(stage: StagePlan, folder: Path) -> StagePlan:
    """The plan with as many examples a pass as are known to fit, in place of those it began with."""
    try:
        size = int((folder / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return stage
    parameters = stage.parameters.model_copy(update={"micro_batch_size": size})
    return stage.model_copy(update={"parameters": parameters})


def less_memory(stage: StagePlan) -> str:
    """What would take less memory, of what the stage does not do yet."""
    if stage.parameters.adapter == "None":
        smaller = "train an adapter instead of all weights, "
    elif stage.parameters.quantization is None:
        where = " in the stage that makes the adapter" if stage.starts_from == "Adapter" else ""
        smaller = f"set quantization: NF4{where} to hold the base in 4 bits, "
    else:
        smaller = ""
    return f"lower training.maxLength, {smaller}or ask for a GPU with more memory"


def halve_micro_batch(stage: StagePlan, folder: Path, said: str, processes: int = 1) -> None:
    """Let half as many examples be a pass of ``stage`` from now on; an optimizer step has as many as before.

    Of several ``processes`` a quarter: each time costs them an attempt, of which there are few. ``said`` is
    what PyTorch said. Raises :class:`CudaOutOfMemoryError` where a single one did not fit.
    """
    parameters = stage.parameters
    share = parameters.batch_size // processes
    now = parameters.micro_batch_size
    most = now // 2 if processes == 1 else max(now // 4, min(1, now - 1))
    smaller = [n for n in range(1, most + 1) if share % n == 0]
    if not smaller:
        raise CudaOutOfMemoryError(
            f"the GPU is out of memory with one {parameters.unit} per pass: {said}", less_memory(stage)
        )
    logger.warning("out of GPU memory: continuing with %d examples per pass", smaller[-1])
    write_atomic(folder / FILE, f"{smaller[-1]}\n")
