"""What the outputs of a case are expected to be: scorers with their references, combined by groups."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunegate_api.cases.expectations import Expectation, GroupExpectation, Leaf
from tunegate_api.meta import shorten
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS
from tunegate_trainer.graders import Grader, Sample, Score
from tunegate_trainer.graders.grader import MAX_EXPLANATION, Outlook


@dataclass(frozen=True)
class Expected:
    """The scorer of an output and the reference that it compares the output with."""

    scorer: Grader
    reference: Any
    """What the output is compared with, see :class:`~tunegate_trainer.graders.Sample`."""
    excluded: str = ""
    """Set if the output must not pass the scorer: why an output that passes it fails."""


@dataclass(frozen=True)
class ExpectedGroup:
    """Expectations of which a number must pass."""

    of: Sequence["Expected | ExpectedGroup"]
    needed: int
    excluded: str = ""
    """Set if the output must not pass the group: why an output that passes it fails."""


Expectations = Sequence[Expected | ExpectedGroup]
"""Expectations that must all pass."""
Place = tuple[int, ...]
"""Where an expectation is: its index, after the indices of the groups around it, the outermost first."""


def expected_outputs(
    expectations: Sequence[Expectation],
    scorer: Callable[[Leaf], Grader],
    reference: Callable[[Leaf], Any],
) -> list[Expected | ExpectedGroup]:
    """Return the expectations of a golden case with their scorers. ``scorer`` returns the scorer of an
    expectation, and ``reference`` what it compares an output with."""

    def build(each: Expectation) -> Expected | ExpectedGroup:
        if isinstance(each, GroupExpectation):
            excluded = "passes a group of expectations that the case excludes" if each.not_ else ""
            return ExpectedGroup([build(inner) for inner in each.of], each.needed, excluded)
        excluded = f"passes {each.type}, which the case excludes" if each.not_ else ""
        return Expected(scorer(each), reference(each), excluded)

    return [build(each) for each in expectations]


def placed(expectations: Expectations, at: Place = ()) -> Iterator[tuple[Place, Expected]]:
    """Return all scorers with their references, and the place of each in ``expectations``."""
    for index, each in enumerate(expectations):
        if isinstance(each, ExpectedGroup):
            yield from placed(each.of, (*at, index))
        else:
            yield (*at, index), each


def combined(expectations: Expectations, scores: Mapping[Place, Score]) -> Score:
    """Return the score of an output by all ``expectations``, from its ``scores`` at the places that
    :func:`placed` gives.

    An expectation that could not be scored makes the output an error.
    """
    found = _combined(expectations, scores, ())
    return found[0] if len(found) == 1 else _at_least(len(found), found)


def _combined(expectations: Expectations, scores: Mapping[Place, Score], at: Place) -> list[Score]:
    return [_score(each, scores, (*at, index)) for index, each in enumerate(expectations)]


def _score(each: Expected | ExpectedGroup, scores: Mapping[Place, Score], place: Place) -> Score:
    if isinstance(each, ExpectedGroup):
        found = _at_least(each.needed, _combined(each.of, scores, place))
    else:
        found = scores[place]
    if not each.excluded or found.outcome == ERROR or found.undecided:
        return found
    return Score(FAIL, each.excluded) if found.outcome == PASS else Score(PASS)


def _at_least(needed: int, scores: Sequence[Score]) -> Score:
    """Return a pass if ``needed`` scores passed. Otherwise the explanations of those that failed."""
    error = next((score for score in scores if score.outcome == ERROR), None)
    if error:
        return error
    failed = [score for score in scores if score.outcome == FAIL]
    if len(scores) - len(failed) >= needed:
        return Score(PASS)
    explanation = "; ".join(score.explanation for score in failed)
    if needed < len(scores):
        explanation = f"passes {len(scores) - len(failed)} of {len(scores)}, expected {needed}: {explanation}"
    undecided = any(score.undecided for score in failed)
    return Score(FAIL, shorten(explanation, MAX_EXPLANATION - 1), undecided=undecided)


def outlook(expectations: Expectations, sample: Callable[[Expected], Sample]) -> Outlook:
    """Return what the rest of an output that was cut off can still change about its score by all
    ``expectations``. ``sample`` returns what the scorer of an expectation would judge."""
    return _outlook_of(len(expectations), expectations, sample)


def _outlook_of(needed: int, of: Expectations, sample: Callable[[Expected], Sample]) -> Outlook:
    found = []
    for each in of:
        if isinstance(each, ExpectedGroup):
            inner = _outlook_of(each.needed, each.of, sample)
        else:
            inner = each.scorer.outlook(sample(each))
        found.append(inner.opposite if each.excluded else inner)
    if found.count(Outlook.PASSES) >= needed:
        return Outlook.PASSES
    return Outlook.FAILS if len(found) - found.count(Outlook.FAILS) < needed else Outlook.OPEN
