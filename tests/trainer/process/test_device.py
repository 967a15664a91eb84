"""The device of a job, and why there is no GPU."""

from pathlib import Path

import pytest
import torch

from support.trainer_root import TrainerRoot
from tunegate_api.contract.request import Request
from tunegate_trainer.process.device import OLDEST_DRIVERS, choose_device, memory_bytes
from tunegate_trainer.process.errors import NoAcceleratorError

CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Oct 19 18:56:32 UTC 2023\nGCC version:\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (root@machine)\n"


@pytest.fixture
def request_for_a_gpu(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A request for a GPU, on a machine where PyTorch finds none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    root = TrainerRoot(tmp_path / "root", spec={"resources": {"accelerator": "GPU", "gpu": {"count": 1}}})
    return root.write(tiny_model).context().request


@pytest.mark.parametrize("text", [CLOSED, OPEN], ids=["closed", "open"])
def test_too_old_driver_is_named_with_the_oldest_supported(request_for_a_gpu, tmp_path, text):
    driver = tmp_path / "version"
    driver.write_text(text.format("470.82.01"))
    needed = OLDEST_DRIVERS[int(str(torch.version.cuda).partition(".")[0])]
    with pytest.raises(NoAcceleratorError) as raised:
        choose_device(request_for_a_gpu, driver=driver)
    assert str(raised.value) == (
        f"PyTorch with CUDA {torch.version.cuda} needs NVIDIA driver {needed} or newer, but this machine has "
        "driver 470.82.01"
    )


@pytest.mark.parametrize("version", ["580.65.06", "999.1"])
def test_missing_gpu_is_reported_if_the_driver_is_new_enough(request_for_a_gpu, tmp_path, version):
    driver = tmp_path / "version"
    driver.write_text(OPEN.format(version))
    with pytest.raises(NoAcceleratorError, match="PyTorch finds no CUDA device"):
        choose_device(request_for_a_gpu, driver=driver)


@pytest.mark.parametrize("content", [None, "something else"])
def test_machine_without_a_driver_has_no_gpu(request_for_a_gpu, tmp_path, content):
    driver = tmp_path / "version"
    if content:
        driver.write_text(content)
    with pytest.raises(NoAcceleratorError, match="PyTorch finds no CUDA device"):
        choose_device(request_for_a_gpu, driver=driver)


def test_memory_of_a_gpu_is_unknown_on_a_cpu():
    assert memory_bytes(torch.device("cpu")) is None
