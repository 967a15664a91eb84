"""Waiting for what other processes and threads do, without guessing how long it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def eventually(
    look: Callable[[], _Result | None], *, seconds: float = 20.0, what: str = "", pause: float = 0.02
) -> _Result:
    """Call ``look`` every ``pause`` seconds until it returns something true, and return that.

    Fails after ``seconds``. An AssertionError in ``look`` is a "not yet"; the last one is shown then.
    """
    deadline = time.monotonic() + seconds
    while True:
        problem: AssertionError | None = None
        try:
            result = look()
            if result:
                return result
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or problem or look}") from problem
        time.sleep(pause)
