"""From outputs to scores: each scorer is called once, with all samples that it judges."""

from collections.abc import Mapping, Sequence

from tunegate_api.judging.verdict import ERROR, FAIL, PASS, TRUNCATED
from tunegate_trainer.evaluate.scorers import Output, Sample, Score, Scorer
from tunegate_trainer.evaluate.scorers.scorer import not_scored
from tunegate_trainer.evaluate.sets import Case

CUT = Score(TRUNCATED, "cut at maxNewTokens before the end of the turn")


def score_cases(cases: Sequence[Case], outputs: Sequence[Output]) -> list[Mapping[str, Score]]:
    """Return the score of each case by each of its measures. ``outputs`` has one answer a case, in order.

    All scorers of a measure must pass. An output that one of them could not score is an error. A truncated
    output does not pass, and no scorer sees it.
    """
    samples: dict[Scorer, list[Sample]] = {}
    for case, output in zip(cases, outputs, strict=True):
        for expected in [] if output.truncated else [e for all_of in case.measures.values() for e in all_of]:
            sample = Sample(case.prompt, output.text, expected.reference, case.source)
            samples.setdefault(expected.scorer, []).append(sample)
    scores = {scorer: iter(_scored(scorer, batch)) for scorer, batch in samples.items()}
    return [
        {
            measure: CUT if output.truncated else _all([next(scores[e.scorer]) for e in all_of])
            for measure, all_of in case.measures.items()
        }
        for case, output in zip(cases, outputs, strict=True)
    ]


def _scored(scorer: Scorer, batch: Sequence[Sample]) -> Sequence[Score]:
    """One score for each sample, whatever the scorer does: an error where it does not keep its contract."""
    try:
        scores = list(scorer.score(batch))
    except Exception as error:  # noqa: BLE001 - whatever went wrong, these samples were not measured
        return [not_scored(error)] * len(batch)
    if len(scores) != len(batch):
        problem = ValueError(f"the scorer returned {len(scores)} scores for {len(batch)} samples")
        return [not_scored(problem)] * len(batch)
    return [_known(score) for score in scores]


def _known(score: Score) -> Score:
    if score.outcome in (PASS, FAIL, ERROR):
        return score
    return not_scored(ValueError(f"the scorer returned the outcome {score.outcome!r}"))


def _all(scores: Sequence[Score]) -> Score:
    """One score of several: the first error, or all failures."""
    errors = [score for score in scores if score.outcome == ERROR]
    if errors:
        return errors[0]
    problems = [score.explanation for score in scores if score.outcome == FAIL]
    return Score(FAIL, "; ".join(problems)) if problems else Score(PASS)
