"""Score outputs. Each scorer is called once, with all samples that it judges."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunegate_api.judging.counts import COUNTED, is_valid_for
from tunegate_api.judging.golden import GoldenCase
from tunegate_api.judging.verdict import ERROR, FAIL, PASS, TRUNCATED
from tunegate_trainer.evaluate.expected import Expected, combined, scored
from tunegate_trainer.evaluate.scorers import Output, Sample, Score, Scorer
from tunegate_trainer.evaluate.scorers.scorer import not_scored
from tunegate_trainer.evaluate.sets import Case
from tunegate_trainer.tokens.rows import Row

EMPTY = "is empty, which the case does not allow"
CUT = "truncated at maxNewTokens before the end of the turn"


def score_cases(cases: Sequence[Case], outputs: Sequence[Output]) -> list[Mapping[str, Score]]:
    """Return the scores of each case, by measure. ``outputs`` has one answer per case, in the same order.

    A case passes a measure if all expectations of the measure pass. If a scorer cannot score the output, the
    outcome is error. A truncated output does not pass. Only count-based metrics score it, because the
    denominator of their value includes truncated outputs.
    """
    batches: dict[int, tuple[Scorer, list[Sample]]] = {}
    for case, output in zip(cases, outputs, strict=True):
        for measure, all_of in case.measures.items():
            for expected in scored(all_of) if _unscored(measure, case, output) is None else ():
                sample = Sample(case.prompt, output.text, expected.reference, case.source)
                batches.setdefault(id(expected.scorer), (expected.scorer, []))[1].append(sample)
    scores = {key: iter(_scored(scorer, batch)) for key, (scorer, batch) in batches.items()}

    def next_score(expected: Expected) -> Score:
        return next(scores[id(expected.scorer)])

    def score(measure: str, case: Case, output: Output) -> Score:
        if unscored := _unscored(measure, case, output):
            return unscored
        found = combined(case.measures[measure], next_score)
        return _counted(measure, found, output) if measure in COUNTED else replace(found, counts=None)

    return [
        {measure: score(measure, case, output) for measure in case.measures}
        for case, output in zip(cases, outputs, strict=True)
    ]


def _unscored(measure: str, case: Case, output: Output) -> Score | None:
    """Return the score of an output that no scorer needs to judge: a truncated one, and an empty one if the
    golden case does not allow it."""
    if measure in COUNTED:
        return None
    if output.truncated:
        return Score(TRUNCATED, CUT)
    return Score(FAIL, EMPTY) if is_forbidden_empty(case.source, output.text) else None


def _scored(scorer: Scorer, batch: Sequence[Sample]) -> Sequence[Score]:
    """Return one score per sample. If the scorer raises an exception or returns a wrong number of scores, all
    samples are errors. If it returns an invalid score, only this sample is an error."""
    try:
        scores = list(scorer.score(batch))
    except Exception as error:  # noqa: BLE001 - any exception means that these samples were not scored
        return [not_scored(error)] * len(batch)
    if len(scores) != len(batch):
        problem = ValueError(f"the scorer returned {len(scores)} scores for {len(batch)} samples")
        return [not_scored(problem)] * len(batch)
    return [_validated(score) for score in scores]


def _validated(score: Score) -> Score:
    if score.outcome in (PASS, FAIL, ERROR):
        return score
    return not_scored(ValueError(f"the scorer returned the outcome {score.outcome!r}"))


def _counted(measure: str, score: Score, output: Output) -> Score:
    """Return the score for a count-based metric. Its outcome is error if the counts are missing or invalid,
    else truncated if the output is truncated, else unchanged."""
    if score.outcome == ERROR:
        return replace(score, counts=None)
    if not is_valid_for(measure, score.counts):
        return not_scored(ValueError(f"the scorer of {measure} returned invalid counts: {score.counts}"))
    return replace(score, outcome=TRUNCATED, explanation=CUT) if output.truncated else score


def is_forbidden_empty(case: GoldenCase | Row, output: str) -> bool:
    """Whether an output is empty, and ``case`` is a golden case that does not allow it. A model that answers
    nothing is broken."""
    return isinstance(case, GoldenCase) and not case.allow_empty and not output.strip()
