"""Turns at sending reports: one of a job at a time, and no job takes much of the parser's time."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

PARSER_SHARE = 10
"""A job waits this many times as long as its last report took: it takes a tenth of the parser's time."""


class Turn:
    """One turn of a job."""

    seconds = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the work that the job has to pay for, in whichever thread it is done."""
        began = time.thread_time()  # not the time in which others had the processor
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
    """Gives the turns of a job in the order in which they are asked for. For one event loop."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    @asynccontextmanager
    async def turn(self, job_uid: str) -> AsyncIterator[Turn]:
        """Wait for a turn of this job. Give the wait a deadline."""
        loop, turn = asyncio.get_running_loop(), Turn()
        self._jobs = {uid: job for uid, job in self._jobs.items() if job.waiting or job.free_at > loop.time()}
        job = self._jobs.setdefault(job_uid, _Job())
        job.waiting += 1
        try:
            async with job.lock:
                await asyncio.sleep(job.free_at - loop.time())
                yield turn
        finally:  # also after a report that was refused
            job.free_at = max(job.free_at, loop.time() + PARSER_SHARE * turn.seconds)
            job.waiting -= 1
