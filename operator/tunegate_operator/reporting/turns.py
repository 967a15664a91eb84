"""Throttle reports per job: one report at a time, and at most a tenth of the parser's time."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

PARSER_SHARE = 10
"""Parsing a report of a job takes some CPU time. The job's next report waits for this many times as long, so
a job uses at most a tenth of the parser's time."""


class Turn:
    """The turn of a job, in which one report of the job is read and parsed."""

    seconds = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the CPU time of the ``with`` block. It determines how long the job's next turn waits."""
        began = time.thread_time()  # excludes the time in which other threads ran
        try:
            yield
        finally:
            self.seconds = time.thread_time() - began


@dataclass
class _Job:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    free_at: float = 0.0


class Turns:
    """Gives each job one turn at a time, in the order of its requests. Used in one event loop only."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    @asynccontextmanager
    async def turn(self, job_uid: str) -> AsyncIterator[Turn]:
        """Wait until it is the turn of this job. The caller should limit the wait with a timeout."""
        loop, turn = asyncio.get_running_loop(), Turn()
        self._jobs = {uid: job for uid, job in self._jobs.items() if job.waiting or job.free_at > loop.time()}
        job = self._jobs.setdefault(job_uid, _Job())
        job.waiting += 1
        try:
            async with job.lock:
                await asyncio.sleep(job.free_at - loop.time())
                yield turn
        finally:  # also after a refused report
            job.free_at = max(job.free_at, loop.time() + PARSER_SHARE * turn.seconds)
            job.waiting -= 1
