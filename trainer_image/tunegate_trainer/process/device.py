"""Choose the device that a process computes on."""

import gc

import torch

from tunegate_api.contract import Request
from tunegate_trainer.process.errors import NoAcceleratorError


def choose_device(request: Request, local_rank: int = 0) -> torch.device:
    """Return the device for the accelerator that the job requests: the CPU, or the GPU with index
    ``local_rank``.

    Raises :class:`NoAcceleratorError` if PyTorch finds no such GPU.
    """
    if request.spec.resources.accelerator == "CPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NoAcceleratorError(
            "spec.resources.accelerator is GPU, but PyTorch finds no CUDA device",
            "use a machine with a GPU, or set spec.resources.accelerator: CPU for a small model",
        )
    if torch.cuda.device_count() <= local_rank:
        raise NoAcceleratorError(
            f"spec.resources.gpu.count needs at least {local_rank + 1} GPUs on each machine, but PyTorch "
            f"finds {torch.cuda.device_count()} on this one",
            "set spec.resources.gpu.count to at most the GPUs of one machine, and resources.nodes to use "
            "several machines",
        )
    return torch.device("cuda", local_rank)


def free_memory() -> None:
    """Free the memory of models that are no longer used, before another model is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
