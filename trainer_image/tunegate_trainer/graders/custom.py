"""The scorer custom of task metrics and golden cases: an entry point of an installed Python package."""

import faulthandler
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from operator import index
from typing import Any, Protocol

from tunegate_api.verdict.counts import Counts
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS
from tunegate_trainer.graders.exact.time_limit import time_limit
from tunegate_trainer.graders.grader import (
    MAX_EXPLANATION,
    Outlook,
    Reads,
    Sample,
    Score,
    always_open,
    not_scored,
)
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.process.packages import show_all

GROUP = "tunegate.scorers"
"""The group of the entry points."""
CUSTOM = "custom"
"""The name of the task metric, and the type of the expectation."""
_REPEAT_SECONDS = 10.0
_STANDARD_ERROR = 2
"""The file descriptor, because ``sys.stderr`` may have been replaced by an object without one."""


class _OutOfTime(BaseException):
    """A call exceeded its time limit. This class is not an ``Exception``, so that no scorer catches it and
    retries."""


class UserScorer(Protocol):
    """What an entry point names."""

    def score(self, samples: Sequence[Sample]) -> Sequence[Score]:
        """Return one score for each sample, as a grader does, see :class:`Grader`."""


@dataclass(frozen=True, eq=False)
class CustomGrader:
    """A scorer of the user, with a time limit. A score without counts has the value 1 if the output passed,
    otherwise 0."""

    scorer: UserScorer
    min_seconds: float = 600
    seconds_per_output: float = 10
    """The time limit of a call is ``min_seconds``, and this time more for each output. With the defaults, a
    call for 1,000 outputs has less time than the three hours that other ranks wait. Several scorers of one
    golden set share these three hours."""
    grace_seconds: float = 60
    """How long after the time limit the process ends if the scorer still runs."""
    outlook: Callable[[Sample], Outlook] = always_open
    reads: Reads = Reads.WHOLE

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Score the samples in one call. Raises :class:`TimeoutError` after the time limit.

        The scorer cannot be stopped while it is in compiled code that does not return. Then the process ends,
        and its log shows where the scorer was.
        """
        seconds = self.min_seconds + self.seconds_per_output * len(samples)
        faulthandler.dump_traceback_later(seconds + self.grace_seconds, exit=True, file=_STANDARD_ERROR)
        try:
            with time_limit(seconds, _OutOfTime(), repeat=_REPEAT_SECONDS):
                return [_with_counts(score) for score in self.scorer.score(samples)]
        except _OutOfTime:
            raise TimeoutError(
                f"the scorer took more than {seconds:g} s for {len(samples)} outputs; set timeouts for its "
                "requests, or make it faster"
            ) from None
        finally:
            faulthandler.cancel_dump_traceback_later()


def custom_grader(name: str, field: str = "spec.taskMetrics") -> CustomGrader:
    """Load the scorer that the entry point ``name`` names. Errors begin with ``field``.

    Raises :class:`UserError` if there is no such entry point, if several packages have it, if it cannot be
    imported, or if it is not a scorer.
    """
    show_all()  # the scorer may need any of them
    loaded = _load(_entry_point(name, field), field)
    if isinstance(loaded, type) or not callable(getattr(loaded, "score", None)):
        raise UserError(
            f"{field}: the entry point {name} of {GROUP} is not a scorer",
            "the entry point must name an object with the method score(samples), not a class or a function",
        )
    return CustomGrader(loaded)


def custom_version(name: str) -> str:
    """Return the name and version of the package that has the entry point ``name``."""
    package = _entry_point(name, "").dist
    return f"{package.name} {package.version}" if package else ""


def _entry_point(name: str, field: str) -> EntryPoint:
    installed = entry_points(group=GROUP)
    found = [each for each in installed if each.name == name]
    if not found:
        names = ", ".join(sorted({each.name for each in installed})) or "none"
        raise UserError(
            f"{field}: no installed package has the entry point {name} in {GROUP}",
            f"install the package in the trainer image, or correct entryPoint; installed: {names}",
        )
    if len(found) > 1:
        packages = ", ".join(sorted(each.dist.name for each in found if each.dist))
        raise UserError(
            f"{field}: several packages have the entry point {name} in {GROUP}: {packages}",
            "remove all of these packages but one",
        )
    return found[0]


def _load(entry_point: EntryPoint, field: str) -> Any:
    try:
        return entry_point.load()
    except Exception as error:  # importing code of the user can raise any exception
        raise UserError(
            f"{field}: the entry point {entry_point.name} cannot be loaded from "
            f"{entry_point.value}: {type(error).__name__}: {error}",
            "correct the package in the trainer image",
        ) from error


def _with_counts(score: Any) -> Score:
    """Return the score of the user's scorer with counts, or an error if it is invalid."""
    if not isinstance(score, Score) or score.outcome not in (PASS, FAIL, ERROR):
        return not_scored(ValueError(f"the scorer returned {score!r}"))
    explanation = "" if score.outcome == PASS else score.explanation[:MAX_EXPLANATION] or "no explanation"
    counts = score.counts or Counts(int(score.outcome == PASS), 1)
    if isinstance(counts, Counts):
        try:  # bool, or an integer of NumPy
            counts = Counts(index(counts.numerator), index(counts.denominator))
        except TypeError:
            return not_scored(ValueError(f"the scorer returned counts that are not whole numbers: {counts}"))
    return replace(score, explanation=explanation, counts=counts)
