"""Scoring of outputs: batches, truncated outputs, several scorers, counts, and scorers that break the
contract."""

from collections.abc import Sequence

import pytest

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.v1alpha2.evalgate import Samples
from tunegate_api.verdict.counts import MAX_COUNT, Aggregate, Counts
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS, TRUNCATED
from tunegate_trainer.evaluate.expected import Expected
from tunegate_trainer.evaluate.scoring import score_cases, score_votes, voted_score
from tunegate_trainer.evaluate.sets import Case
from tunegate_trainer.graders import Grader, Output, Sample, Score
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.grader import Reads, always_open
from tunegate_trainer.graders.table import GRADERS

GOLDEN = GoldenCase(id="case", prompt="?", expect=[{"type": "equals", "value": "yes"}])
EQUALS, CONTAINS, REGEX = (GRADERS[name] for name in ("equals", "contains", "regex"))


class Recorder:
    """A scorer that passes everything, and records the outputs of each batch."""

    reads = Reads.WHOLE
    outlook = staticmethod(always_open)

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        self.batches.append([sample.output for sample in samples])
        return [Score(PASS)] * len(samples)


class Returns:
    """A scorer that always returns the same scores."""

    reads = Reads.WHOLE
    outlook = staticmethod(always_open)

    def __init__(self, *scores: Score) -> None:
        self._scores = scores

    def score(self, samples: Sequence[Sample]) -> Sequence[Score]:
        del samples
        return self._scores


class Raises:
    reads = Reads.WHOLE
    outlook = staticmethod(always_open)

    def score(self, samples: Sequence[Sample]) -> Sequence[Score]:
        raise RuntimeError(f"no judge for {len(samples)} samples")


def case(**measures: Sequence[tuple[Grader, object]]) -> Case:
    expected = {name: [Expected(s, _text(r)) for s, r in all_of] for name, all_of in measures.items()}
    counted = {"rouge_l": Aggregate.MEAN} if "rouge_l" in measures else {}
    return Case(id="case", tags=[], shown="?", prompt="?", source=GOLDEN, measures=expected, counted=counted)


def _text(reference: object) -> object:
    return ExpectedText(reference) if isinstance(reference, str) else reference


def answers(*texts: str) -> list[Output]:
    return [Output(text, truncated=False) for text in texts]


def test_scorer_gets_all_its_cases_in_one_batch():
    recorder = Recorder()
    cases = [case(golden=[(recorder, 1)]), case(golden=[(EQUALS, "b")]), case(golden=[(recorder, 2)])]
    scores = score_cases(cases, answers("a", "b", "c"))
    assert recorder.batches == [["a", "c"]]
    assert [score["golden"].outcome for score in scores] == [PASS] * 3


def test_each_case_gets_the_score_of_its_own_output():
    cases = [case(golden=[(EQUALS, text)], other=[(CONTAINS, text)]) for text in ("a", "b", "c")]
    scores = score_cases(cases, answers("a", "bb", "d"))
    assert [score["golden"].outcome for score in scores] == [PASS, FAIL, FAIL]
    assert [score["other"].outcome for score in scores] == [PASS, PASS, FAIL]


def test_each_expectation_gets_its_own_score_from_a_shared_scorer():
    both = case(first=[(CONTAINS, "a"), (EQUALS, "a"), (CONTAINS, "b")], second=[(CONTAINS, "c")])
    outputs = [Output("a", truncated=False), Output("a", truncated=True), Output("c", truncated=False)]
    right, cut, other = score_cases([both] * 3, outputs)
    assert right["first"] == Score(FAIL, "does not contain 'b'")
    assert right["second"] == Score(FAIL, "does not contain 'c'")
    assert cut["first"].outcome == TRUNCATED
    assert other["second"] == Score(PASS)


def test_truncated_output_does_not_pass_and_is_not_scored():
    recorder = Recorder()
    outputs = [Output("yes", truncated=True), Output("yes", truncated=False)]
    cut, whole = score_cases([case(golden=[(recorder, None)])] * 2, outputs)
    assert cut["golden"] == Score(
        TRUNCATED, "truncated before the end of the turn, by maxNewTokens or the context of the model"
    )
    assert whole["golden"] == Score(PASS)
    assert recorder.batches == [["yes"]]


def test_all_expectations_of_a_case_must_hold():
    both = case(golden=[(EQUALS, "yes"), (CONTAINS, "no"), (CONTAINS, "!")])
    (score,) = score_cases([both], answers("yes"))
    assert score["golden"] == Score(FAIL, "does not contain 'no'; does not contain '!'")


def test_case_is_an_error_if_one_expectation_has_an_error():
    all_of = case(golden=[(EQUALS, "no"), (REGEX, "("), (CONTAINS, "no")])
    (score,) = score_cases([all_of], answers("yes"))
    assert score["golden"].outcome == ERROR
    assert score["golden"].explanation.startswith("could not be scored: error: missing ), ")


@pytest.mark.parametrize(
    ("scorer", "explanation"),
    [
        (Raises(), "RuntimeError: no judge for 2 samples"),
        (Returns(Score(PASS)), "ValueError: the scorer returned 1 scores for 2 samples"),
        (Returns(*[Score("pass")] * 2), "ValueError: the scorer returned the outcome 'pass'"),
        (Returns(*[Score(TRUNCATED)] * 2), "ValueError: the scorer returned the outcome 't'"),
    ],
    ids=["raises", "too few scores", "unknown outcome", "outcome reserved for truncation"],
)
def test_samples_of_a_scorer_breaking_its_contract_are_errors(scorer, explanation):
    scores = score_cases([case(golden=[(scorer, None)], other=[(EQUALS, "a")])] * 2, answers("a", "a"))
    assert [score["golden"] for score in scores] == [Score(ERROR, f"could not be scored: {explanation}")] * 2
    assert [score["other"].outcome for score in scores] == [PASS] * 2


def test_count_metric_keeps_counts_of_passed_and_failed_outputs():
    counted = Returns(Score(PASS, counts=Counts(4, 4)), Score(FAIL, "half", Counts(2, 4)))
    scores = score_cases([case(rouge_l=[(counted, None)])] * 2, answers("a", "b"))
    assert [str(score["rouge_l"].counts) for score in scores] == ["4/4", "2/4"]


def test_truncated_output_is_scored_by_a_count_metric():
    counted, passes = Returns(Score(PASS, counts=Counts(4, 4))), Recorder()
    (score,) = score_cases(
        [case(rouge_l=[(counted, None)], exact_match=[(passes, None)])], [Output("a", truncated=True)]
    )
    assert (score["rouge_l"].outcome, score["rouge_l"].counts) == (TRUNCATED, Counts(4, 4))
    assert score["exact_match"].outcome == TRUNCATED
    assert passes.batches == []


@pytest.mark.parametrize(
    "counts", [None, Counts(5, 4), Counts(-1, 4), Counts(0, MAX_COUNT + 1), Counts(0.5, 1)]
)
@pytest.mark.parametrize("truncated", [False, True])
def test_invalid_counts_of_a_count_metric_give_outcome_error(counts, truncated):
    scorer = Returns(Score(PASS, counts=counts))
    (score,) = score_cases([case(rouge_l=[(scorer, None)])], [Output("a", truncated=truncated)])
    assert (score["rouge_l"].outcome, score["rouge_l"].counts) == (ERROR, None)
    assert "the scorer of rouge_l returned invalid counts" in score["rouge_l"].explanation


def test_counts_for_a_metric_without_counts_are_dropped():
    (score,) = score_cases([case(golden=[(Returns(Score(PASS, counts=Counts(4, 4))), None)])], answers("a"))
    assert score["golden"] == Score(PASS)


@pytest.mark.parametrize(
    ("outcomes", "majority", "all_of"),
    [
        ("ppp", PASS, PASS),
        ("ppf", PASS, FAIL),
        ("pff", FAIL, FAIL),
        ("pf", FAIL, FAIL),
        ("ppt", PASS, TRUNCATED),
        ("ptt", TRUNCATED, TRUNCATED),
        ("tff", FAIL, FAIL),
        ("ppe", PASS, ERROR),
        ("pfe", ERROR, FAIL),
        ("ffe", FAIL, FAIL),
        ("pte", TRUNCATED, ERROR),
        ("ptef", ERROR, FAIL),
    ],
)
def test_outputs_vote_on_the_outcome_of_their_case(outcomes, majority, all_of):
    scores = [Score(outcome, "" if outcome == PASS else f"is {outcome}") for outcome in outcomes]
    for vote, expected in (("Majority", majority), ("All", all_of)):
        voted = voted_score(scores, Samples(count=len(outcomes), vote=vote))
        assert voted.outcome == expected, vote
        assert (voted.explanation == "") is (expected == PASS)


def test_shown_output_is_one_with_the_outcome_of_the_case():
    samples = Samples(count=3)
    yes, no = case(golden=[(EQUALS, "yes")]), case(golden=[(EQUALS, "no")])
    (shown, scores), (other, others) = score_votes([yes, no], [answers("a", "yes", "yes")] * 2, samples)
    assert (shown.text, scores["golden"]) == ("yes", Score(PASS))
    assert other.text == "a"
    assert others["golden"] == Score(FAIL, "0 of 3 outputs pass, and 2 must: is not 'no'")
