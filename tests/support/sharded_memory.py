"""Measure the memory that a rank allocates when it trains a sharded model, and estimate it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from support.tensor_memory import (
    FULL,
    LONG,
    TWO_LONG,
    Allocated,
    Configuration,
    measure,
    passes,
    save_model,
)
from support.trainer_root import stage_plan
from tunegate_api.contract.shapes import Memory, Sharding
from tunegate_api.memory.block import BFLOAT16, FLOAT32
from tunegate_api.memory.estimate import estimate
from tunegate_trainer.distributed.ranks import Ranks
from tunegate_trainer.models.loading import Shards
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.train import overrides

RANKS = 2


@dataclass(frozen=True)
class Sharded:
    """A configuration whose model is sharded over two ranks."""

    one: Configuration
    in_bfloat16: bool
    """Whether the ranks gather weights in bfloat16."""
    is_mixed: bool = False
    """Whether the ranks compute in bfloat16 with copies of weights in float32, as a GPU does."""

    @property
    def name(self) -> str:
        weights = "bfloat16" if self.in_bfloat16 else "copies" if self.is_mixed else "float32"
        return f"{self.one.name}, {weights}"


def _configurations() -> Iterator[Configuration]:
    deep: dict[str, Any] = {"num_hidden_layers": 6}
    large: dict[str, Any] = {"vocab_size": 16_384}
    few = ((20, 4), (18, 6))
    yield Configuration("long examples", FULL, deep, LONG, TWO_LONG)
    yield Configuration("recomputed", FULL, deep, LONG, TWO_LONG, checkpointing=True)
    yield Configuration("large blocks", FULL, deep | {"hidden_size": 512}, few, 100, checkpointing=True)
    yield Configuration("large vocabulary", FULL, large, few, 100, checkpointing=True)
    yield Configuration(
        "tied head", FULL, large | {"tie_word_embeddings": True}, few, 100, checkpointing=True
    )


def _sharded() -> Iterator[Sharded]:
    for one in _configurations():
        yield Sharded(one, in_bfloat16=True)
        yield Sharded(one, in_bfloat16=False)
    fused, deep = FULL | {"optim": "adamw_torch_fused"}, {"num_hidden_layers": 6}
    for checkpointing in (False, True):  # a pass of one long example needs no mask on a CPU either
        name = "one example a pass" + (", recomputed" if checkpointing else "")
        one = Configuration(name, fused, deep, LONG, 1, checkpointing=checkpointing)
        yield Sharded(one, in_bfloat16=False, is_mixed=True)


SHARDED = tuple(_sharded())


@contextmanager
def first_rank() -> Iterator[Pool]:
    """Start a process that is the first rank, without the other one.

    With PyTorch's fake backend, this rank allocates the same tensors as with NCCL, but communicates with
    nobody. Gloo would allocate copies of what it sends, which a GPU does not need.
    """
    with get_context("spawn").Pool(1, _connect) as pool:
        yield pool


def _connect() -> None:
    torch.set_num_threads(1)
    # As the trainer sets them for transformers and accelerate.
    os.environ |= {"RANK": "0", "WORLD_SIZE": str(RANKS), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(RANKS)}
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)


def measured_sharded(sharded: Sharded, scratch: Path, pool: Pool) -> tuple[Allocated, Memory]:
    """Return the measured and the estimated memory of a rank. ``pool`` is that of :func:`first_rank`."""
    one, folder = sharded.one, scratch / "model"
    save_model(folder, **one.model)
    shape = model_shape(folder)
    assert shape is not None
    stage = stage_plan("sft", [2], **one.parameters | {"batch_size": RANKS * len(one.lengths)}).parameters
    sharding = Sharding(RANKS, BFLOAT16 if sharded.in_bfloat16 else FLOAT32)
    estimates = [
        estimate(
            shape,
            stage,
            each,
            accelerator="GPU" if sharded.is_mixed else "CPU",
            checkpointing=one.checkpointing,
            sharding=sharding,
        )
        for each in passes(one, stage)
    ]
    allocated = pool.apply(_measure, (sharded, folder, scratch))
    return allocated, max(estimates, key=lambda memory: memory.total)


def _measure(sharded: Sharded, folder: Path, scratch: Path) -> Allocated:
    one = sharded.one
    if sharded.is_mixed:
        precision: Any = patch.object(
            overrides, "training_precision", lambda _: torch.autocast("cpu", torch.bfloat16)
        )
    else:
        precision = nullcontext()
    with precision:
        return measure(
            folder,
            scratch,
            one.lengths,
            checkpointing=one.checkpointing,
            pass_tokens=one.pass_tokens,
            shards=Shards(RANKS, sharded.in_bfloat16),
            ranks=Ranks(0, RANKS, _control=dist.group.WORLD),
            **one.parameters,
        )
