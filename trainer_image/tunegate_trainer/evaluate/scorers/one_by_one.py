"""Scorers that judge each output separately. An exception makes only its own sample an error."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from tunegate_api.judging.verdict import FAIL, PASS
from tunegate_trainer.evaluate.scorers.scorer import Sample, Score, not_scored

SCORE_SECONDS = 5.0
"""Limit of the CPU time for one output and one expectation, a thousand times the usual. CPU time does not
depend on other processes."""
DEEP = 20
"""If a scorer recurses too deeply, an output with this many levels of nesting fails. With fewer levels, the
schema is the cause, and the sample is an error."""


@dataclass(frozen=True)
class OneByOne:
    """A scorer that calls a function for each sample, with a time limit."""

    judge: Callable[[Sample], Score]
    """If it raises, the sample is an error."""
    seconds: float = SCORE_SECONDS
    """CPU time for one sample."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [self._judged(sample) for sample in samples]

    def _judged(self, sample: Sample) -> Score:
        """Judge one sample. An output that is nested too deeply fails, because that is its own fault."""
        try:
            with _limited(self.seconds):
                return self.judge(sample)
        except RecursionError as error:
            if _nesting(sample.output) < DEEP:
                return not_scored(error)
            return Score(FAIL, "is nested too deeply to be judged")
        except Exception as error:  # noqa: BLE001 - any exception means that this sample was not scored
            return not_scored(error)


def matcher(problem: Callable[[Sample], str | None]) -> OneByOne:
    """Return a scorer that passes an output if ``problem`` returns None. Otherwise the output fails, and the
    returned text is the explanation."""

    def judge(sample: Sample) -> Score:
        found = problem(sample)
        return Score(PASS) if found is None else Score(FAIL, found)

    return OneByOne(judge)


def _nesting(text: str) -> int:
    """Return the largest number of open brackets and braces in a text, including those in JSON strings."""
    steps = ({"[": 1, "{": 1, "]": -1, "}": -1}.get(character, 0) for character in text)
    return max(accumulate(steps, initial=0))


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in this block after ``seconds`` of CPU time. Some patterns never end on some texts.

    It works only in the main thread, which receives signals.
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
