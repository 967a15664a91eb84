"""Choose the device that a process computes on."""

import gc
import re
from pathlib import Path

import torch

from tunegate_api.contract.request import Request
from tunegate_trainer.process.errors import NoAcceleratorError

DRIVER = Path("/proc/driver/nvidia/version")
"""The file with the version of the NVIDIA driver. It does not exist on a machine without a driver."""
OLDEST_DRIVERS = {12: "525.60.13", 13: "580.65.06"}
"""The oldest driver for each major version of CUDA (CUDA Compatibility, table "Minor Version
Compatibility")."""


def choose_device(request: Request, local_rank: int = 0, driver: Path = DRIVER) -> torch.device:
    """Return the device for the accelerator that the job requests: the CPU, or the GPU with index
    ``local_rank``.

    Raises :class:`NoAcceleratorError` if PyTorch finds no such GPU, or if the ``driver`` is too old for it.
    """
    if request.spec.resources.accelerator == "CPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        found, oldest = _driver_version(driver), _oldest_driver(torch.version.cuda)
        if found and oldest and _numbers(found) < _numbers(oldest):
            raise NoAcceleratorError(
                f"PyTorch with CUDA {torch.version.cuda} needs NVIDIA driver {oldest} or newer, but this "
                f"machine has driver {found}",
                "update the driver of the machine, or use a machine with a newer driver",
            )
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


def _driver_version(file: Path) -> str | None:
    """Return the version in the file ``DRIVER``, such as ``580.95.05``. Returns None if there is none."""
    try:
        match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", file.read_text())
    except OSError:
        return None
    return match[1] if match else None


def _oldest_driver(cuda: str | None) -> str | None:
    return OLDEST_DRIVERS.get(_numbers(cuda)[0]) if cuda else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def memory_bytes(device: torch.device) -> int | None:
    """Return the memory of a GPU in bytes, or None for the CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def free_memory() -> None:
    """Free the memory of models that are no longer used, before another model is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
