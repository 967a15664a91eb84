"""Print the peak memory of tensors on the GPU when a process ends. Python runs this file when it starts, if
its folder is in ``PYTHONPATH``."""

import atexit
import sys


@atexit.register
def _print_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        print({"peak": torch.cuda.max_memory_allocated()}, flush=True)
