"""Call blocking functions in threads that do not delay the end of the process."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_Result = TypeVar("_Result")


async def in_daemon_thread(function: Callable[[], _Result]) -> _Result:
    """Return the result of a function that is called in a new daemon thread, or raise its error.

    Unlike the threads of :func:`asyncio.to_thread`, the end of the process does not wait for this thread.
    """
    outcome = Future[_Result]()
    outcome.set_running_or_notify_cancel()  # so that a cancelled caller does not cancel this future

    def call() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            outcome.set_exception(error)

    threading.Thread(target=call, name="page", daemon=True).start()
    return await asyncio.wrap_future(outcome)
