"""Waiting for what other processes and threads do, without guessing how long it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def eventually(look: Callable[[], _Result | None], *, seconds: float = 20.0, what: str = "") -> _Result:
    """Call ``look`` until it returns something true, and return that; fails after ``seconds``.

    An AssertionError in ``look`` counts as not yet; the last one is shown on failure.
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
        time.sleep(0.02)
