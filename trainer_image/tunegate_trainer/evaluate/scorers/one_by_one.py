"""Scorers that judge each output by itself. What goes wrong with one sample is an error of that one alone."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from tunegate_api.judging.verdict import FAIL, PASS
from tunegate_trainer.evaluate.scorers.scorer import Sample, Score, not_scored

SCORE_SECONDS = 5.0
"""CPU time that judging one output by one expectation may take: a thousand times what it should. Not by the
clock, on which a process also waits for others."""
DEEP = 20
"""Levels of nesting in an output that may be why its scorer recurses too deeply; below, its schema is."""


@dataclass(frozen=True)
class OneByOne:
    """A scorer that calls a function for each sample, with a limit of time."""

    judge: Callable[[Sample], Score]
    """May raise: that sample is an error."""
    seconds: float = SCORE_SECONDS
    """CPU time for one sample."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [self._judged(sample) for sample in samples]

    def _judged(self, sample: Sample) -> Score:
        """An output that is nested too deeply to be judged fails, as that is the output's own fault."""
        try:
            with _limited(self.seconds):
                return self.judge(sample)
        except RecursionError as error:
            if _nesting(sample.output) < DEEP:
                return not_scored(error)
            return Score(FAIL, "is nested too deeply to be judged")
        except Exception as error:  # noqa: BLE001 - whatever went wrong, this sample was not measured
            return not_scored(error)


def matcher(problem: Callable[[Sample], str | None]) -> OneByOne:
    """Return a scorer that passes an output where ``problem`` returns None, and otherwise fails it with what
    ``problem`` returns."""

    def judge(sample: Sample) -> Score:
        found = problem(sample)
        return Score(PASS) if found is None else Score(FAIL, found)

    return OneByOne(judge)


def _nesting(text: str) -> int:
    """How many brackets of JSON are open at most, those in its strings included."""
    steps = ({"[": 1, "{": 1, "]": -1, "}": -1}.get(character, 0) for character in text)
    return max(accumulate(steps, initial=0))


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError within this block once it took too long: some patterns take for ever on some texts.

    Where signals come, that is: in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds:g} s of CPU time; use a simpler pattern")

    handler = signal.signal(signal.SIGVTALRM, stop)
    before = signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, *before)
        signal.signal(signal.SIGVTALRM, handler)
