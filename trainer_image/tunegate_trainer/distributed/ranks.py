"""The ranks of a distributed training run, and the communication between them."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from tunegate_api.backoff import backoff_pauses
from tunegate_api.contract.request import Request
from tunegate_trainer.distributed.topology import Topology
from tunegate_trainer.process.device import choose_device
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import PeerLostError, TrainerError

T = TypeVar("T")

TRAINING_SECONDS = 600
"""Timeout in seconds for communication within an optimizer step. With gloo, ranks notice at once if the
process of another rank ends, because its connections close."""
CONTROL_SECONDS = 3 * 3600
"""Timeout in seconds for communication between optimizer steps. It is long, because the primary rank may
hash, merge or save a large model."""
RENDEZVOUS_SECONDS = 1800
"""Minimum timeout in seconds for all ranks to connect. If the job's startTimeoutSeconds is longer, the
timeout is longer too, because a pod may wait that long for a node."""
_MARGIN_SECONDS = 60
"""Seconds that are added to startTimeoutSeconds, so that the operator times out before the ranks do. Only the
operator can report what a pod waits for."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_c10d: Any = dist  # its type hints leave out the stores
_ARRIVED = "arrived"
_GLOO = "gloo"
"""Text by which gloo's errors are recognized, because gloo has no exception class of its own."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process in a run, and its communication with the other ranks.

    All ranks must call the methods that communicate in the same order.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """The index of the GPU that this rank uses, among the GPUs of its pod."""
    splits_evaluation: bool = True
    """Whether each rank evaluates a part of the cases. If the model is sharded, all ranks evaluate all
    cases."""
    _control: Any = field(default=None, repr=False)
    """The gloo process group for communication between optimizer steps. On GPUs too, it detects at once that
    the process of another rank has ended."""

    @property
    def is_primary(self) -> bool:
        """Whether this rank writes checkpoints and sends reports."""
        return self.rank == 0

    def broadcast(self, make: Callable[[], T]) -> T:
        """Call ``make`` on the primary rank, and return its result on every rank."""
        if self.world_size == 1:
            return make()
        box: list[Any] = [make() if self.is_primary else None]
        with _peer_errors():
            dist.broadcast_object_list(box, src=0, group=self._control)
        made: T = box[0]
        return made

    def claim(self, folder: Path) -> Writer:
        """Claim ``folder`` once for all ranks. Only the primary rank writes."""
        epoch = self.broadcast(lambda: Writer.claim(folder).epoch)
        return Writer(folder, epoch, writes=self.is_primary)

    def once_per_node(self, work: Callable[[], T], *, primary_first: bool = False) -> T:
        """Call ``work`` on the first rank of each node, and return its result on all ranks of the node.

        With ``primary_first``, the other nodes call it when the primary rank has succeeded, and find the
        files that the primary rank has written. If ``work`` raises a :class:`TrainerError` on one node, all
        ranks raise this error.
        """
        turns = [self.is_primary, not self.is_primary] if primary_first else [True]
        results: dict[int, tuple[T]] = {}
        for is_turn in turns:
            mine = _attempt(work) if is_turn and self.local_rank == 0 else None
            for rank, result in enumerate(self.gather(mine)):
                if isinstance(result, TrainerError):
                    raise result
                if result is not None:
                    results[rank] = result
        (own,) = results[self.rank - self.local_rank]
        return own

    def barrier(self) -> None:
        """Wait until all ranks have called this method."""
        self.sum(0)

    def sum(self, *numbers: float) -> list[float]:
        """Return the sum of each number over all ranks."""
        if self.world_size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        with _peer_errors():
            dist.all_reduce(sums, group=self._control)
        return [float(number) for number in sums.tolist()]

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of every rank, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _peer_errors():
            dist.all_gather_object(values, value, group=self._control)
        return values

    def own_share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items that this rank evaluates: a part of ``items``, or all of them if the model is
        sharded."""
        return items[self.rank :: self.world_size] if self.splits_evaluation else items

    def merge(self, part: Mapping[int, T]) -> dict[int, T]:
        """Return the entries of every rank's ``part`` in one dictionary."""
        return {key: value for found in self.gather(part) for key, value in found.items()}


def _attempt(work: Callable[[], T]) -> tuple[T] | TrainerError:
    """Return the result of ``work`` in a tuple, or the error that it raised."""
    try:
        return (work(),)
    except TrainerError as error:
        return error


SINGLE_RANK = Ranks()
"""The only rank of a run with one process."""


@contextmanager
def process_group(request: Request) -> Iterator[Ranks]:
    """Connect to the other ranks, yield this process's :class:`Ranks`, and disconnect if the block succeeds.

    Raises :class:`PeerLostError` if a rank does not connect in time.
    """
    topology = Topology.of(request.spec.resources)
    if topology.world_size == 1:
        yield SINGLE_RANK
        return
    seconds = max(RENDEZVOUS_SECONDS, request.spec.start_timeout_seconds + _MARGIN_SECONDS)
    yield _connect(topology, choose_device(request, topology.local_rank), seconds)
    dist.destroy_process_group()  # after an error, the end of the process closes the connections


def _connect(topology: Topology, device: torch.device, seconds: int) -> Ranks:
    host, _, port = topology.master.rpartition(":")
    # As torchrun sets them: accelerate and transformers read the rank and the world size from them.
    os.environ |= {
        "RANK": str(topology.rank),
        "WORLD_SIZE": str(topology.world_size),
        "LOCAL_RANK": str(topology.local_rank),
        "LOCAL_WORLD_SIZE": str(topology.local_size),
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
    }
    # Otherwise accelerate uses half of the threads that PyTorch chose.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store = _rendezvous_store(topology, host, int(port), seconds)
    with _peer_errors():
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=topology.rank,
            world_size=topology.world_size,
            timeout=timedelta(seconds=TRAINING_SECONDS),
        )
        control = dist.new_group(backend="gloo", timeout=timedelta(seconds=CONTROL_SECONDS))
    return Ranks(topology.rank, topology.world_size, topology.local_rank, _control=control)


def _rendezvous_store(topology: Topology, host: str, port: int, seconds: int) -> Any:
    """Wait until all ranks have connected, and return the TCPStore through which they find each other.

    This function polls with short pauses. PyTorch itself would wait in native code, where SIGTERM is not
    handled, and would resolve the host name only once, possibly before the primary rank's pod has a DNS name.
    """
    deadline = time.monotonic() + seconds
    late = f"within {seconds} s"
    if topology.rank != 0:
        _wait_until(
            deadline,
            lambda: _is_listening(host, port),
            f"the primary rank did not listen at {host}:{port} {late}",
        )
    with _peer_errors():
        store = _c10d.TCPStore(
            host,
            port,
            world_size=topology.world_size,
            is_master=topology.rank == 0,
            timeout=timedelta(seconds=TRAINING_SECONDS),
            wait_for_workers=False,
        )
        store.add(_ARRIVED, 1)
        _wait_until(
            deadline, lambda: store.add(_ARRIVED, 0) >= topology.world_size, f"not all ranks connected {late}"
        )
    return store


def _is_listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_LONGEST_PAUSE).close()
    except OSError:
        return False
    return True


def _wait_until(deadline: float, condition: Callable[[], bool], failure: str) -> None:
    pauses = backoff_pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
    while not condition():
        if time.monotonic() > deadline:
            raise PeerLostError(
                f"distributed training did not start: {failure}",
                "check that all pods run, and that their headless Service resolves in DNS",
            )
        time.sleep(next(pauses))


def is_peer_lost(error: BaseException) -> bool:
    """Return whether an error means that the connection to another rank is lost."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _GLOO in str(error))


@contextmanager
def _peer_errors() -> Iterator[None]:
    """Turn an error in communication with other ranks into :class:`PeerLostError`."""
    try:
        yield
    except RuntimeError as error:
        raise peer_lost_error(error) from error


def peer_lost_error(error: BaseException) -> PeerLostError:
    """Return the error for a lost connection to another rank."""
    return PeerLostError(
        f"the connection to another rank of this training was lost: {' '.join(str(error).split())}",
        "check how the job's other pods ended; if none of them reports a cause, this message has "
        "it, for example "
        "that /dev/shm is too small (podTemplate.sharedMemory)",
    )
