"""A case that could not be scored is scored again from the outputs in its file, as if they were new."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.contract.request import GenerationSettings
from tunegate_api.v1alpha2.evalgate import Samples
from tunegate_api.verdict.counts import Aggregate
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS, TRUNCATED, CaseSet
from tunegate_trainer.evaluate.evaluate import (
    SetResult,
    judge_outputs,
    read_cases,
    score_errors_again,
    write_cases,
)
from tunegate_trainer.evaluate.expected import Expected
from tunegate_trainer.evaluate.sets import Case, GeneratedSet
from tunegate_trainer.graders import Output, Sample, Score
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.grader import Reads, always_open
from tunegate_trainer.graders.table import GRADERS

GOLDEN = GoldenCase(id="case", prompt="?", expect=[{"type": "equals", "value": "yes"}])
VOTE = Samples(count=3, vote="Majority", temperature="0.7")
EQUALS = Expected(GRADERS["equals"], ExpectedText("yes"))
WRONG = Output("no, never", truncated=True)
"""An output that was truncated, and that no continuation could save."""
OPEN = Output("ye", truncated=True)


class Judge:
    """A judge that passes outputs without white space at their end, once it is up."""

    reads = Reads.WHOLE
    outlook = staticmethod(always_open)

    def __init__(self) -> None:
        self.is_up = False

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        outcomes = [FAIL if each.output.endswith(" ") else PASS for each in samples]
        return [Score(each if self.is_up else ERROR) for each in outcomes]


def evaluated(judge: Judge, samples: Samples | None) -> GeneratedSet:
    """Return a set with one case, which is compared with a text, and scored by a judge for a second
    measure and, if several outputs vote, for the same."""
    asked = Expected(judge, None)
    case = Case(
        id="case",
        tags=[],
        shown="?",
        prompt="?",
        source=GOLDEN,
        measures={"golden": [EQUALS, asked]} if samples else {"golden": [EQUALS], "f1": [asked]},
        counted={} if samples else {"f1": Aggregate.MICRO},
    )
    return GeneratedSet(
        file="cases.jsonl",
        identity="",
        names={},
        case_set=CaseSet(sha256="", ids=["case"]),
        generation=GenerationSettings(samples=samples),
        cases=[case],
    )


@pytest.mark.parametrize(
    ("outputs", "samples", "outcome"),
    [
        ([Output("yes", truncated=False), Output("yes ", truncated=False), WRONG], VOTE, FAIL),
        ([Output("yes", truncated=False), Output("yes ", truncated=False), OPEN], VOTE, TRUNCATED),
        ([Output("no\ufffd", truncated=True)], None, FAIL),
        ([Output("ye\ufffd", truncated=True)], None, TRUNCATED),
        ([Output("no, never", truncated=True, settled=0)], None, TRUNCATED),
    ],
)
def test_truncated_output_keeps_its_outcome_when_errors_are_scored_again(tmp_path, outputs, samples, outcome):
    judge = Judge()
    golden = evaluated(judge, samples)
    write_cases(
        tmp_path / "cases.jsonl",
        SetResult(cases=judge_outputs(golden.cases, [outputs], samples), seconds=0),
    )
    stored = read_cases(tmp_path / "cases.jsonl")
    assert stored is not None
    assert stored.has_errors
    judge.is_up = True
    assert score_errors_again(golden, stored).outcomes("golden") == outcome


def test_stored_lines_in_another_order_are_scored_by_case_id():
    judge = Judge()
    only = evaluated(judge, None)
    cases = [
        replace(only.cases[0], id=text, measures={"golden": [expected(text)], "f1": [Expected(judge, None)]})
        for text in ("yes", "no")
    ]
    golden = replace(only, cases=cases)
    found = SetResult(cases=judge_outputs(cases, [answer("yes"), answer("no")], None), seconds=0)
    reordered = SetResult(cases=found.cases[::-1], seconds=0)
    judge.is_up = True
    assert score_errors_again(golden, reordered).outcomes("golden") == PASS * 2


def expected(text: str) -> Expected:
    return Expected(GRADERS["equals"], ExpectedText(text))


def answer(text: str) -> list[Output]:
    return [Output(text, truncated=False)]
