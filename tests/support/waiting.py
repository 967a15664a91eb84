"""Wait for a condition that other processes or threads fulfil, by polling."""

import time
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def eventually(
    look: Callable[[], _Result | None], *, seconds: float = 20.0, what: str = "", pause: float = 0.02
) -> _Result:
    """Call ``look`` every ``pause`` seconds until it returns a true value, and return that value.

    Raises AssertionError after ``seconds``. An AssertionError in ``look`` counts as "not yet"; the last one
    is the cause of the final error.
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
