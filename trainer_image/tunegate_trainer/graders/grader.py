"""The interface of graders: they take samples and return scores."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.meta import shorten
from tunegate_api.verdict.counts import Entry
from tunegate_api.verdict.outcomes import ERROR
from tunegate_trainer.tokens.rows import Row

MAX_EXPLANATION = 1000
"""Maximum length of an explanation, in characters."""
_SHOWN = 200
"""Maximum length of a quotation in an explanation, in characters."""


@dataclass(frozen=True)
class Output:
    """The answer of a model."""

    text: str
    """The text of the answer, without special tokens."""
    truncated: bool
    """Whether the answer was cut off because generation reached ``max_new_tokens`` before the end of the
    turn."""
    settled: int | None = None
    """The number of characters at the start of a truncated text that no further token can change. None if
    only replacement characters at its end can change, because a character was cut."""

    @property
    def start(self) -> str:
        """The part of a truncated text that no further token can change."""
        return self.text[: self.settled].rstrip("\ufffd")


@dataclass(frozen=True)
class Sample:
    """One output, and the reference that it is judged by."""

    prompt: str
    """The rendered prompt."""
    output: str
    """The answer, without special tokens."""
    reference: Any
    """What the output is compared with: a string, a JSON value, a JSON schema, or the object that the scorer
    of a task metric needs."""
    case: GoldenCase | Row
    """The golden case, safety case or held-out row that the prompt comes from."""


@dataclass(frozen=True)
class Score:
    """The result of judging one output."""

    outcome: str
    """The outcome as one letter, see :mod:`tunegate_api.verdict.outcomes`."""
    explanation: str = ""
    """Why the output did not pass. Empty if it passed."""
    counts: Entry | None = None
    """The entry for a count-based metric, see :mod:`tunegate_api.verdict.counts`. Set even if the output
    failed."""
    undecided: bool = False
    """Whether the output failed because it cannot be judged. Then the opposite expectation fails too."""


class Reads(Enum):
    """What a grader must read of an answer."""

    WHOLE = "whole"
    """An answer that was cut off does not pass: it fails if no continuation of it could pass."""
    START = "start"
    """An answer that was cut off is graded, because a refusal is at its start. Only if this start is cut off,
    too, it is truncated."""


class Outlook(Enum):
    """The score of an output that was cut off, whatever follows."""

    PASSES = "passes"
    FAILS = "fails"
    OPEN = "open"
    """It passes with one continuation, and fails with another, or this is not known."""

    @property
    def opposite(self) -> "Outlook":
        """The outlook of the opposite expectation."""
        opposites = {Outlook.PASSES: Outlook.FAILS, Outlook.FAILS: Outlook.PASSES}
        return opposites.get(self, self)


def always_open(_sample: Sample) -> Outlook:
    """Return the outlook of a sample if it is not known."""
    return Outlook.OPEN


class Grader(Hashable, Protocol):
    """Judges outputs by one type of expectation, or by one task metric.

    Hashable, because the samples of all cases are batched by their grader.
    """

    @property
    def reads(self) -> Reads:
        """What the grader must read of an answer."""

    def outlook(self, sample: Sample, /) -> Outlook:
        """Return what the rest of an output that was cut off can still change about its score. The output of
        the sample is the start that is known."""

    def score(self, samples: Sequence[Sample]) -> Sequence[Score]:
        """Return one score for each sample, in the same order.

        The outcome is pass, fail, or error if the sample could not be scored. A fail or error has an
        explanation. A score depends only on its own sample. If this method raises an exception, all samples
        become errors.
        """


def not_scored(error: Exception) -> Score:
    """Return the score of an output that could not be scored."""
    return Score(ERROR, f"could not be scored: {type(error).__name__}: {error}"[:MAX_EXPLANATION])


def quoted(text: str) -> str:
    """Return a text in quotation marks for an explanation. A long text is cut."""
    return repr(shorten(text, _SHOWN))
