"""Score outputs. Each scorer is called once, with all samples that it judges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.v1alpha2.evalgate import Samples
from tunegate_api.verdict.counts import Aggregate, is_valid_for
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS, TRUNCATED
from tunegate_trainer.data.refusals import HEAD, is_refusal
from tunegate_trainer.evaluate.expected import Expected, Place, combined, outlook, placed
from tunegate_trainer.evaluate.sets import Case
from tunegate_trainer.graders import Grader, Output, Sample, Score
from tunegate_trainer.graders.grader import Outlook, Reads, not_scored
from tunegate_trainer.tokens.rows import Row

EMPTY = "is empty, which the case does not allow"
CUT = "truncated before the end of the turn, by maxNewTokens or the context of the model"
HOPELESS = f"{CUT}, and no continuation of it could pass"


def score_cases(cases: Sequence[Case], outputs: Sequence[Output]) -> list[Mapping[str, Score]]:
    """Return the scores of each case, by measure. ``outputs`` has one answer per case, in the same order.

    A case passes a measure if all expectations of the measure pass. If a scorer cannot score the output, the
    outcome is error. A truncated output does not pass: it fails if no continuation could pass, and is
    truncated otherwise. Only count-based metrics score it, because the denominator of their value includes
    truncated outputs, and graders that read only the start of an output. They do not score an output whose
    start was truncated.
    """
    answers = [_Answer(case, output) for case, output in zip(cases, outputs, strict=True)]
    batches: dict[Grader, dict[_Asked, Sample]] = {}
    for number, answer in enumerate(answers):
        for measure in answer.scored_measures:
            for place, expected in placed(answer.case.measures[measure]):
                sample = _sample(answer.case, answer.output.text, expected)
                batches.setdefault(expected.scorer, {})[_Asked(number, measure, place)] = sample
    scores: dict[tuple[int, str], dict[Place, Score]] = {}
    for scorer, batch in batches.items():
        for question, score in zip(batch, _scored(scorer, [*batch.values()]), strict=True):
            scores.setdefault((question.answer, question.measure), {})[question.place] = score
    return [
        {each: answer.score(each, scores.get((number, each), {})) for each in answer.case.measures}
        for number, answer in enumerate(answers)
    ]


class _Asked(NamedTuple):
    """What a scorer is asked about: one expectation of a measure for one answer."""

    answer: int
    """The index of the answer."""
    measure: str
    place: Place


@dataclass(frozen=True)
class _Answer:
    """The output of a model for a case."""

    case: Case
    output: Output

    @property
    def scored_measures(self) -> list[str]:
        """The measures whose scorers judge the output."""
        return [measure for measure in self.case.measures if self._unscored(measure) is None]

    def score(self, measure: str, scores: Mapping[Place, Score]) -> Score:
        """Return the score by all expectations of a measure. ``scores`` has the score of each expectation; it
        is not read for a measure whose scorers do not judge the output."""
        if unscored := self._unscored(measure):
            return unscored
        found = combined(self.case.measures[measure], scores)
        aggregate = self.case.counted.get(measure)
        if aggregate is None:
            return replace(found, counts=None)
        return _counted(measure, aggregate, found, self.output)

    def _unscored(self, measure: str) -> Score | None:
        """Return the score of an output that no scorer judges: a truncated one, and an empty one if the
        golden case does not allow it. If its graders read only the start, only an output whose start is
        truncated."""
        case, output = self.case, self.output
        if measure in case.counted:
            return None
        if all(each.scorer.reads is Reads.START for _, each in placed(case.measures[measure])):
            return Score(TRUNCATED, CUT) if _may_still_refuse(output) else None
        if output.truncated:
            found = outlook(case.measures[measure], lambda expected: _sample(case, output.start, expected))
            return Score(FAIL, HOPELESS) if found is Outlook.FAILS else Score(TRUNCATED, CUT)
        return Score(FAIL, EMPTY) if is_forbidden_empty(case.source, output.text) else None


def score_votes(
    cases: Sequence[Case], outputs: Sequence[Sequence[Output]], samples: Samples | None
) -> list[tuple[Output, Mapping[str, Score]]]:
    """Return the scores of each case by the votes of its ``outputs``, and the output to show: the first with
    the outcome of the case. Without ``samples``, each case has one output."""
    answers = [(case, output) for case, each in zip(cases, outputs, strict=True) for output in each]
    scores = score_cases([case for case, _ in answers], [output for _, output in answers])
    ends = [*accumulate(map(len, outputs))]
    found = []
    for each, end in zip(outputs, ends, strict=True):
        of_outputs = scores[end - len(each) : end]
        if samples is None:
            found.append((each[0], of_outputs[0]))
            continue
        voted = {measure: voted_score([s[measure] for s in of_outputs], samples) for measure in of_outputs[0]}
        outcomes = [[s[measure].outcome for measure in voted] for s in of_outputs]
        wanted = [score.outcome for score in voted.values()]
        found.append((each[outcomes.index(wanted) if wanted in outcomes else 0], voted))
    return found


def voted_score(scores: Sequence[Score], samples: Samples) -> Score:
    """Return the score of a case by the scores of its outputs.

    If the case cannot reach the necessary number of passes, it fails. It is truncated if it could have
    reached the number without truncated outputs, and an error if outputs that were not scored decide.
    """
    needed = len(scores) if samples.vote == "All" else len(scores) // 2 + 1
    passed, truncated, errors = (sum(s.outcome == each for s in scores) for each in (PASS, TRUNCATED, ERROR))
    if passed >= needed:
        return Score(PASS)
    if passed + truncated + errors < needed:
        outcome = FAIL
    else:
        outcome = TRUNCATED if passed + truncated >= needed else ERROR
    why = next((s.explanation for s in scores if s.outcome == outcome), "")
    return Score(outcome, f"{passed} of {len(scores)} outputs pass, and {needed} must: {why}")


def _sample(case: Case, text: str, expected: Expected) -> Sample:
    return Sample(case.prompt, text, expected.reference, case.source)


def _may_still_refuse(output: Output) -> bool:
    """Whether an output was truncated before the part ends in which refusals are recognized, and has none."""
    text = output.text.strip()
    return output.truncated and len(text) < HEAD and not is_refusal(text)


def _scored(scorer: Grader, batch: Sequence[Sample]) -> Sequence[Score]:
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


def _counted(measure: str, aggregate: Aggregate, score: Score, output: Output) -> Score:
    """Return the score for a count-based metric. Its outcome is error if the counts are missing or invalid,
    else truncated if the output is truncated, else unchanged."""
    if score.outcome == ERROR:
        return replace(score, counts=None)
    if not is_valid_for(aggregate, score.counts):
        return not_scored(ValueError(f"the scorer of {measure} returned invalid counts: {score.counts}"))
    return replace(score, outcome=TRUNCATED, explanation=CUT) if output.truncated else score


def is_forbidden_empty(case: GoldenCase | Row, output: str) -> bool:
    """Whether an output is empty, and ``case`` is a golden case that does not allow it. A model that answers
    nothing is broken."""
    return isinstance(case, GoldenCase) and not case.allow_empty and not output.strip()
