"""Choose the device that a process computes on."""

import torch

from tunegate_api.contract import Request
from tunegate_trainer.process.errors import NoAcceleratorError


def choose_device(request: Request, local_rank: int = 0) -> torch.device:
    """Return the device that the job asks for. With several GPUs, it is the GPU number ``local_rank``.

    Raises :class:`NoAcceleratorError` if there is no such GPU.
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
            f"spec.resources.gpu.count is more than the {torch.cuda.device_count()} GPUs that PyTorch finds",
            "set it to the number of GPUs in one machine, and use resources.nodes for more",
        )
    return torch.device("cuda", local_rank)
