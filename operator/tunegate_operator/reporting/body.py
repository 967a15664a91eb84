"""Read and parse the body of a report within limits, so that no sender can use up memory or block the GIL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from pydantic import ValidationError

from tunegate_api.contract.report import Report

MAX_BYTES = 2 * 1024 * 1024
"""Limit for the bytes of a body. It is enough for results and a plan of 1 MiB each, the limit for a
ConfigMap."""
MAX_OBJECTS, MAX_VALUES = 8192, 100_000
"""Limits for the number of JSON objects in a report, and for its values, counted as commas plus arrays. They
determine how long parsing holds the GIL. For example, 16 gates with 1,000 cases each and two tags per case
have 64,000 values; 1,000 evaluations have 2,000 objects."""
MAX_ERRORS = 20
"""The most validation errors that are listed. If there are more, only their number is reported, because
formatting them would take longer than parsing."""


class TooLargeError(Exception):
    """The report is too large (HTTP 413)."""


class UnreadableError(Exception):
    """The body is not a valid report."""


class OverloadedError(Exception):
    """All bodies together exceeded the limit, and this body was the largest. Retry later."""


class Bodies:
    """Reads the bodies of reports in one event loop, and limits their total size.

    Bodies are read concurrently, so that a slow sender does not delay others. If the bodies that are being
    read or wait to be parsed exceed ``limit`` bytes in total, the largest body is dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[asyncio.Timeout, int] = {}

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Read the body of a request. The body counts towards the limit until the context ends.

        Raises OverloadedError, and TooLargeError. If the Content-Length is too large, nothing is read.
        """
        if (request.content_length or 0) > MAX_BYTES:
            raise _too_large(f"{request.content_length} bytes, but the limit is {MAX_BYTES}")
        try:
            async with asyncio.timeout(None) as until:
                self._held[until] = 0
                try:
                    yield await self._read(request, until)
                finally:
                    del self._held[until]
        except TimeoutError:
            raise OverloadedError("the operator is receiving too many large reports at once") from None

    async def _read(self, request: web.Request, until: asyncio.Timeout) -> bytes:
        chunks, size = [], 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > MAX_BYTES:
                raise _too_large(f"more than {MAX_BYTES} bytes")
            chunks.append(chunk)
            self._held[until] += len(chunk)
            self._drop_largest()
        return b"".join(chunks)

    def _drop_largest(self) -> None:
        if sum(self._held.values()) > self._limit:
            largest = max(self._held, key=lambda until: self._held[until])
            self._held[largest] = 0  # no longer counted: its read ends in the loop's next iteration
            largest.reschedule(asyncio.get_running_loop().time())


def parse_report(body: bytes) -> Report:
    """Parse the report in a body. Raises TooLargeError, and UnreadableError if it is not a valid report."""
    objects, values = body.count(b"{"), body.count(b",") + body.count(b"[")
    if objects > MAX_OBJECTS or values > MAX_VALUES:
        found = (
            f"{objects} JSON objects and {values} values, but the limits are {MAX_OBJECTS} objects and "
            f"{MAX_VALUES} values"
        )
        raise _too_large(found)
    try:
        return Report.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > MAX_ERRORS:
            raise UnreadableError(
                f"the report has {error.error_count()} validation errors, too many to list"
            ) from None
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise UnreadableError("; ".join(_with_path(each["loc"], each["msg"]) for each in problems)) from None


def _with_path(field: tuple[int | str, ...], problem: str) -> str:
    """Return ``FIELD: PROBLEM`` with the path of the field, or only the problem if it concerns the whole
    report."""
    return f"{'.'.join(str(part) for part in field)}: {problem}" if field else problem


def _too_large(found: str) -> TooLargeError:
    return TooLargeError(
        f"the report is too large ({found}); it cannot be recorded and retrying does not help: "
        "use smaller golden sets, or evaluate fewer checkpoints (spec.evaluation.every)"
    )
