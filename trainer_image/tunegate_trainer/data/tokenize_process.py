"""The functions that processes of :mod:`tunegate_trainer.data.tokenize` run.

This module imports nothing at its top that imports transformers, because transformers imports PyTorch if it
can, which needs half a GiB in each process.
"""

import os
import pickle
import sys
from importlib import import_module
from typing import Any

_process: dict[str, Any] = {}
"""The tokenizer and the maximum length of this process."""
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",  # one process for each CPU is enough
    "TRANSFORMERS_VERBOSITY": "error",  # it would warn that there is no PyTorch
}
"""Environment variables of these processes."""


def start(tokenizer: bytes, longest: int) -> None:
    """Prepare this process. ``tokenizer`` is pickled."""
    os.environ.update(ENVIRONMENT)
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type] # transformers then takes it as not installed
    _process.update(tokenizer=pickle.loads(tokenizer), longest=longest)  # noqa: S301 - from our own process


def tokenize(rows: list[Any]) -> tuple[Any, bytes]:
    """Return the results and the serialized examples of ``rows``."""
    module = import_module("tunegate_trainer.data.tokenize")
    chunk = module.tokenize_chunk(_process["tokenizer"], rows, _process["longest"])
    return chunk.results, chunk.examples.serialize().to_pybytes()
