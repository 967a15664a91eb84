"""The processes that train one model together, and what they tell each other."""

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

from tunegate_api.contract import Request
from tunegate_trainer.distributed.topology import Place
from tunegate_trainer.process.backoff import backoff
from tunegate_trainer.process.device import choose_device
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import PeerLostError

T = TypeVar("T")

TRAINING_SECONDS = 600
"""How long one waits in a training step for another that neither comes nor is seen to end. Where a process
ends its connections close, and by gloo the others know at once."""
CONTROL_SECONDS = 3 * 3600
"""The same between steps, where the first one may hash, merge or save a large model meanwhile."""
MEETING_SECONDS = 1800
"""How long the first ones wait for the last, at least: its pod may still wait for a node, and the operator
gives up after the job's startTimeoutSeconds."""
_LATER_SECONDS = 60
"""So much later than the operator, which knows what the pod waits for."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_c10d: Any = dist  # whose types leave out its stores
_ARRIVED = "arrived"
_BY_GLOO = "gloo"
"""In what gloo says, which has no class of error of its own."""


@dataclass(frozen=True)
class Ranks:
    """One of the processes, and the others. What talks to them is called by all, in the same order."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Which GPU of its machine it uses."""
    shares: bool = True
    """Whether each evaluates a part. Where each holds a part of the model, all compute the same."""
    _control: Any = field(default=None, repr=False)
    """The group that talks between steps: of gloo, in which a peer's end shows on a GPU too."""

    @property
    def is_first(self) -> bool:
        """Whether this one decides, writes and reports."""
        return self.rank == 0

    def shared(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in the first process."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.is_first else None]
        with _peers():
            dist.broadcast_object_list(box, src=0, group=self._control)
        made: T = box[0]
        return made

    def claim(self, folder: Path) -> Writer:
        """Claim ``folder`` once for all ranks. Only the first one writes."""
        epoch = self.shared(lambda: Writer.claim(folder).epoch)
        return Writer(folder, epoch, writes=self.is_first)

    def first(self, work: Callable[[], T]) -> T:
        """Work that the first process does before the others do it, who find what it made."""
        if not self.is_first:
            self.meet()
        done = work()
        if self.is_first:
            self.meet()
        return done

    def meet(self) -> None:
        """Wait until all are here."""
        self.total(0)

    def total(self, *numbers: float) -> list[float]:
        """The sum over all processes, of each number."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        with _peers():
            dist.all_reduce(sums, group=self._control)
        return [float(number) for number in sums.tolist()]

    def gathered(self, one: T) -> list[T]:
        """What each process has, by rank."""
        if self.size == 1:
            return [one]
        every: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(every, one, group=self._control)
        return every

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This one's share of what comes out the same whoever does it."""
        return items[self.rank :: self.size] if self.shares else items

    def merged(self, part: Mapping[int, T]) -> dict[int, T]:
        """The parts of all processes in one."""
        return {key: value for found in self.gathered(part) for key, value in found.items()}


ALONE = Ranks()
"""One process, as most trainings are."""


@contextmanager
def together(request: Request) -> Iterator[Ranks]:
    """This process's place in a training, with the others met, until the block ends well.

    Raises :class:`PeerLostError` if one of them does not come.
    """
    place = Place.of(request.spec.resources)
    if place.size == 1:
        yield ALONE
        return
    seconds = max(MEETING_SECONDS, request.spec.start_timeout_seconds + _LATER_SECONDS)
    yield _meet(place, choose_device(request, place.local_rank), seconds)
    dist.destroy_process_group()  # after an error the end of the process closes what is open


def _meet(place: Place, device: torch.device, seconds: int) -> Ranks:
    host, _, port = place.master.rpartition(":")
    # What torchrun sets: accelerate and transformers learn from it that they are one of several.
    os.environ |= {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.size),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_size),
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
    }
    # Without it accelerate takes half of the threads that PyTorch chose.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store = _store(place, host, int(port), seconds)
    with _peers():
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(seconds=TRAINING_SECONDS),
        )
        control = dist.new_group(backend="gloo", timeout=timedelta(seconds=CONTROL_SECONDS))
    return Ranks(place.rank, place.size, place.local_rank, _control=control)


def _store(place: Place, host: str, port: int, seconds: int) -> Any:
    """What the processes find each other by, once all of them are there.

    PyTorch would wait where no signal reaches Python, and asks once for a name, which a pod has not before it
    runs. Here each wait is a short one, again and again.
    """
    deadline = time.monotonic() + seconds
    late = f"within {seconds} s"
    if place.rank != 0:
        _until(
            deadline, lambda: _listens(host, port), f"the primary rank did not listen at {host}:{port} {late}"
        )
    with _peers():
        store = _c10d.TCPStore(
            host,
            port,
            world_size=place.size,
            is_master=place.rank == 0,
            timeout=timedelta(seconds=TRAINING_SECONDS),
            wait_for_workers=False,
        )
        store.add(_ARRIVED, 1)
        _until(deadline, lambda: store.add(_ARRIVED, 0) >= place.size, f"not all ranks connected {late}")
    return store


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_LONGEST_PAUSE).close()
    except OSError:
        return False
    return True


def _until(deadline: float, is_so: Callable[[], bool], otherwise: str) -> None:
    pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    while not is_so():
        if time.monotonic() > deadline:
            raise PeerLostError(
                f"distributed training did not start: {otherwise}",
                "check that all pods run, and that their headless Service resolves in DNS",
            )
        time.sleep(next(pauses))


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error says that another process is not there any more."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _BY_GLOO in str(error))


@contextmanager
def _peers() -> Iterator[None]:
    """Say of an error in talking to the others that it is one."""
    try:
        yield
    except RuntimeError as error:
        raise peer_lost(error) from error


def peer_lost(error: BaseException) -> PeerLostError:
    """What it means that the others do not answer."""
    return PeerLostError(
        f"another rank of this training ended or does not answer: {' '.join(str(error).split())}",
        "look at how the other pods ended; if none of them names a cause, this message does: for example "
        "a /dev/shm that is too small (podTemplate.sharedMemory)",
    )
