"""Scorers that judge each output separately. An exception for one sample makes only this sample an error."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.graders.exact.time_limit import time_limit
from tunegate_trainer.graders.grader import Outlook, Reads, Sample, Score, always_open, not_scored

SCORE_SECONDS = 5.0
"""Maximum CPU time in seconds for scoring one output by one expectation. Scoring usually takes a thousandth
of this time. CPU time is limited because, unlike elapsed time, it does not depend on other processes."""
DEEP = 20
"""Decides the outcome if a scorer raises RecursionError. If the output has at least this many levels of
nesting, the output is the cause and fails. Otherwise, the schema is the cause and the sample is an error."""


@dataclass(frozen=True)
class OneByOne:
    """A scorer that calls a function for each sample, with a time limit."""

    judge: Callable[[Sample], Score]
    """Returns the score of one sample. If it raises an exception, the sample is an error."""
    seconds: float = SCORE_SECONDS
    """Maximum CPU time for one sample in seconds."""
    outlook: Callable[[Sample], Outlook] = always_open
    reads: Reads = Reads.WHOLE

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [self._judged(sample) for sample in samples]

    def _judged(self, sample: Sample) -> Score:
        """Judge one sample. The sample is an error if the scorer raises an exception, but an output that is
        nested too deeply fails.

        The time limit is needed because matching some regular expressions takes practically forever on some
        texts.
        """
        problem = f"scoring took more than {self.seconds:g} s of CPU time; use a simpler pattern"
        try:
            with time_limit(self.seconds, TimeoutError(problem), signal.ITIMER_VIRTUAL):
                return self.judge(sample)
        except RecursionError as error:
            if _nesting(sample.output) < DEEP:
                return not_scored(error)
            return Score(FAIL, "is nested too deeply to be judged", undecided=True)
        except Exception as error:  # noqa: BLE001 - any exception means that this sample was not scored
            return not_scored(error)


def matcher(
    problem: Callable[[Sample], str | None],
    outlook: Callable[[Sample], Outlook] = always_open,
    reads: Reads = Reads.WHOLE,
) -> OneByOne:
    """Return a scorer that calls ``problem`` for each sample. The output passes if ``problem`` returns None.
    Otherwise the output fails, and the text that ``problem`` returns is the explanation."""

    def judge(sample: Sample) -> Score:
        found = problem(sample)
        return Score(PASS) if found is None else Score(FAIL, found)

    return OneByOne(judge, outlook=outlook, reads=reads)


def _nesting(text: str) -> int:
    """Return how many brackets and braces are open at the deepest point of a text. Those in JSON strings are
    counted too."""
    steps = ({"[": 1, "{": 1, "]": -1, "}": -1}.get(character, 0) for character in text)
    return max(accumulate(steps, initial=0))
