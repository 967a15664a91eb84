"""The body of a report: read within limits, so that no sender can fill memory or hold the interpreter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from pydantic import ValidationError

from tunegate_api.contract import Report

MAX_BYTES = 2 * 1024 * 1024
"""Results that fit a ConfigMap, 1 MiB, do so with the indentation that older senders add."""
MAX_OBJECTS, MAX_VALUES = 8192, 100_000
"""Objects, and commas and arrays, of a report. Parsing holds the interpreter for as long as they take, and
one object may lack many fields. Sixteen gates of a thousand cases with two tags have 64,000 values; a
thousand evaluations have 2,000 objects."""
MAX_ERRORS = 20
"""Errors of a report that are named. Of more, the number is: to write them out takes longer than to parse."""


class TooLargeError(Exception):
    """A report that no answer but 413 fits."""


class UnreadableError(Exception):
    """What was sent is no report."""


class GivenUpError(Exception):
    """The bodies of all reports held too much, and this one held most: send the report again later."""


class Bodies:
    """Bodies that are being read or wait to be parsed. For one event loop.

    Any number is read at once, so senders that are slow delay nobody. Above ``most`` bytes in all, the
    largest body is given up.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[asyncio.Timeout, int] = {}

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Read the body of a request, which counts as held until the context ends.

        Raises GivenUpError, and TooLargeError, before the body is read if its length is declared.
        """
        if (request.content_length or 0) > MAX_BYTES:
            raise _too_large(f"{request.content_length} bytes, limit {MAX_BYTES}")
        try:
            async with asyncio.timeout(None) as until:
                self._held[until] = 0
                try:
                    yield await self._read(request, until)
                finally:
                    del self._held[until]
        except TimeoutError:
            raise GivenUpError("the operator reads too many reports at once") from None

    async def _read(self, request: web.Request, until: asyncio.Timeout) -> bytes:
        chunks, size = [], 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > MAX_BYTES:
                raise _too_large(f"more than {MAX_BYTES} bytes")
            chunks.append(chunk)
            self._held[until] += len(chunk)
            self._give_up_largest()
        return b"".join(chunks)

    def _give_up_largest(self) -> None:
        if sum(self._held.values()) > self._most:
            largest = max(self._held, key=lambda until: self._held[until])
            self._held[largest] = 0  # no longer counted: it ends as soon as the event loop runs it
            largest.reschedule(asyncio.get_running_loop().time())


def parse_report(body: bytes) -> Report:
    """The report in a body. Raises TooLargeError and UnreadableError."""
    objects, values = body.count(b"{"), body.count(b",") + body.count(b"[")
    if objects > MAX_OBJECTS or values > MAX_VALUES:
        found = f"{objects} objects and {values} values, limits {MAX_OBJECTS} and {MAX_VALUES}"
        raise _too_large(found)
    try:
        return Report.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > MAX_ERRORS:
            raise UnreadableError(f"{error.error_count()} errors") from None
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise UnreadableError("; ".join(_named(each["loc"], each["msg"]) for each in problems)) from None


def _named(field: tuple[int | str, ...], problem: str) -> str:
    """A problem after the path of its field; the report as a whole has none."""
    return f"{'.'.join(str(part) for part in field)}: {problem}" if field else problem


def _too_large(found: str) -> TooLargeError:
    return TooLargeError(
        f"the report is too large ({found}); it cannot be recorded and retrying does not help: "
        "use smaller golden sets, or evaluate fewer checkpoints (spec.evaluateEvery)"
    )
