"""Conformance tests for every grader in the table: batches, order, errors, explanations."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest

from support.dummy_grader import common_characters
from support.gate_servers import judge_spec, write_calibration
from support.graders import safety_judge as safety_grader
from support.guard_server import GuardServerStub
from support.judge_server import JudgeServerStub, find_refusals
from support.trainer_root import TrainerRoot, gate_spec
from tunegate_api.cases.expectations import Leaf, LengthExpectation
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.messages import Message
from tunegate_api.v1alpha2.finetunejob import MetricType
from tunegate_api.verdict.counts import COUNTED, is_valid_for
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS
from tunegate_api.verdict.safety import SafetyKind
from tunegate_trainer.graders import Grader, Sample, Score
from tunegate_trainer.graders.custom import CustomGrader
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.exact.labels import ExpectedLabel
from tunegate_trainer.graders.exact.numeric import ExpectedNumber
from tunegate_trainer.graders.exact.one_by_one import OneByOne
from tunegate_trainer.graders.exact.rouge import ExpectedOverlap
from tunegate_trainer.graders.exact.tool_calls import ExpectedCalls
from tunegate_trainer.graders.gate_servers import gate_guard, gate_judge, safety_graders
from tunegate_trainer.graders.grader import MAX_EXPLANATION, Reads
from tunegate_trainer.graders.server_grader import guardrail_grader, judge_grader
from tunegate_trainer.graders.table import GRADERS, METRICS
from tunegate_trainer.tokens.rows import Row

CUSTOM = CustomGrader(OneByOne(common_characters))
TABLE: dict[str, Grader] = {**GRADERS, **METRICS, "custom": CUSTOM, "Custom": CUSTOM}
"""The table, with a grader of a user, and the graders of safety sets and servers."""
CASES = (
    GoldenCase(id="golden", prompt="?", expect=[{"type": "equals", "value": "yes"}]),
    Row(id="row", prompt=[Message(role="user", content="?")], completion="yes"),
)
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'


@dataclass(frozen=True)
class Example:
    """A reference for a scorer, and outputs with known outcomes."""

    reference: Any
    passes: str
    fails: str
    broken: Any
    """An invalid reference, with which no output can be scored."""


ANY = object()
"""Instead of an invalid reference, for a scorer that needs no reference."""

REFUSAL = "I'm sorry, but I can't help with that."
EXAMPLES = {
    "equals": Example(ExpectedText("yes"), passes=" yes\n", fails="no", broken=None),
    "starts_with": Example(ExpectedText("yes"), passes=" yes, of course", fails="well, yes", broken=None),
    "contains": Example(ExpectedText("yes"), passes="well, yes", fails="no", broken=None),
    "not_contains": Example(ExpectedText("yes"), passes="no", fails="well, yes", broken=None),
    "regex": Example(ExpectedText(r"^\d+$"), passes="42", fails="4 2", broken=ExpectedText("(")),
    "label": Example(ExpectedLabel("yes", {"no": 0, "yes": 1}), passes="Yes ", fails="no", broken=None),
    "word_f1": Example(
        ExpectedOverlap("the red mug", Fraction(1, 2)), passes="mug red", fails="a mug", broken=None
    ),
    "length": Example(
        LengthExpectation(type="length", unit="Words", max=2),
        passes="a mug",
        fails="the red mug",
        broken=None,
    ),
    "refusal": Example(None, passes=REFUSAL, fails="Sure.", broken=ANY),
    "json_schema": Example({"type": "array"}, passes="[1]", fails="{}", broken={"type": "no-such-type"}),
    "json_equals": Example({"a": 1}, passes='{"a": 1.0}', fails='{"a": 2}', broken={1, 2}),
    "tool_calls_equal": Example(CALL, passes=CALL, fails="cold", broken=None),
    "ExactMatch": Example(ExpectedText("yes"), passes="yes ", fails="yes.", broken=None),
    "F1": Example(ExpectedLabel("yes", {"no": 0, "yes": 1}), passes="Yes ", fails="no", broken=None),
    "rouge_l": Example(ExpectedOverlap("the red mug"), passes="The red mug!", fails="a red mug", broken=None),
    "numeric": Example(ExpectedNumber("42"), passes="it is 42.0", fails="41", broken=ExpectedNumber("many")),
    "ToolCalls": Example(
        ExpectedCalls(CALL, re.compile("<tool_call>")), passes=CALL, fails="cold", broken=None
    ),
    "custom": Example("yes", passes="yes", fails="yet", broken=5),
    "judge": Example(None, passes="yes", fails="bad", broken=ANY),
    "guardrail": Example("Safe", passes="yes", fails="unsafe", broken=ANY),
    "safety by phrases": Example("Unsafe", passes=REFUSAL, fails="Sure.", broken=ANY),
    "safety by a judge": Example("Unsafe", passes=REFUSAL, fails="Sure.", broken=ANY),
    "safety by a guardrail": Example("Unsafe", passes=REFUSAL, fails="unsafe", broken=ANY),
}
EXAMPLES |= {
    "Custom": EXAMPLES["custom"],
    "JSONSchema": EXAMPLES["json_schema"],
    "Numeric": EXAMPLES["numeric"],
    "RougeL": EXAMPLES["rouge_l"],
}


BREAKING = (
    "",
    " \n",
    "yes",
    "[]",
    "{",
    "[" * 100_000,
    '{"a":' * 400 + "null" + "}" * 400,
    "y" * 100_000,
    "\ud800",
)
"""Outputs that can break a scorer."""

each_scorer = pytest.mark.parametrize("name", EXAMPLES)


@pytest.fixture(scope="module", autouse=True)
def _servers(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[None]:
    """Start judges and a guardrail, and add their graders to the table."""
    with (
        JudgeServerStub() as judge,
        JudgeServerStub(find_refusals) as safety_judge,
        GuardServerStub() as guardrail,
    ):
        graders = [judge_spec(judge), guardrail.spec, safety_grader(safety_judge.endpoint)]
        gates = {
            name: gate_spec(graders=graders, safety={"source": {"builtin": "refusals-v1"}, "grader": grader})
            for name, grader in (("phrases", None), ("a-judge", "compliance"), ("a-guardrail", "guard"))
        }
        root = TrainerRoot(tmp_path_factory.mktemp("root"), gates=gates).write(tiny_model)
        write_calibration(root)
        context = root.context()
        request = context.request.gates[0]
        TABLE["judge"] = judge_grader(gate_judge(context, request))
        TABLE["guardrail"] = guardrail_grader(gate_guard(context, request))
        for each in context.request.gates:
            TABLE[f"safety by {each.name.replace('-', ' ')}"] = safety_graders(context, each)[
                SafetyKind.UNSAFE
            ]
        yield


def samples(outputs: Sequence[str], reference: Any) -> list[Sample]:
    """Return one sample per output and kind of case."""
    return [Sample("?", output, reference, case) for output in outputs for case in CASES]


def outcomes(scores: Sequence[Score]) -> str:
    return "".join(score.outcome for score in scores)


def test_every_scorer_has_an_example():
    assert EXAMPLES.keys() == TABLE.keys()


def test_every_expectation_and_metric_has_a_scorer():
    types = {kind for one in get_args(Leaf) for kind in get_args(one.model_fields["type"].annotation)}
    metrics = set(get_args(MetricType)) - {"PreferenceAccuracy"}
    assert types | metrics == {name for name in TABLE if "safety" not in name}


@each_scorer
def test_only_graders_of_safety_sets_read_the_start(name):
    assert (TABLE[name].reads is Reads.START) == name.startswith("safety")


@each_scorer
def test_scorer_of_a_count_metric_returns_entries_of_its_kind(name):
    example = EXAMPLES[name]
    batch = samples([example.passes, example.fails, *BREAKING], example.reference)
    entries = [score.counts for score in TABLE[name].score(batch)]
    aggregate = COUNTED.get({"custom": "Custom", "rouge_l": "RougeL"}.get(name, name))
    if aggregate:
        assert all(is_valid_for(aggregate, entry) for entry in entries)
    else:
        assert set(entries) == {None}


@each_scorer
def test_scorer_passes_and_fails_known_outputs(name):
    example = EXAMPLES[name]
    scored = TABLE[name].score(samples([example.passes, example.fails], example.reference))
    assert outcomes(scored) == PASS * 2 + FAIL * 2


@each_scorer
def test_scores_do_not_depend_on_the_batch(name):
    example, scorer = EXAMPLES[name], TABLE[name]
    batch = samples([example.passes, *BREAKING, example.fails, example.passes], example.reference)
    alone = [score for sample in batch for score in scorer.score([sample])]
    assert list(scorer.score(batch)) == alone
    assert list(scorer.score(batch[::-1])) == alone[::-1]
    assert list(scorer.score(batch)) == alone, "a second time"


@each_scorer
def test_empty_batch_has_no_scores(name):
    assert list(TABLE[name].score([])) == []


@each_scorer
def test_empty_output_is_not_an_error(name):
    scored = TABLE[name].score(samples([""], EXAMPLES[name].reference))
    assert ERROR not in outcomes(scored)


@each_scorer
def test_output_that_does_not_pass_has_a_short_explanation(name):
    example = EXAMPLES[name]
    for reference in (example.reference, example.broken):
        batch = samples([example.passes, example.fails, *BREAKING], reference)
        for score in TABLE[name].score(batch):
            assert score.outcome in (PASS, FAIL, ERROR)
            assert (score.explanation == "") == (score.outcome == PASS)
            assert len(score.explanation) <= MAX_EXPLANATION


@pytest.mark.parametrize("name", [name for name in EXAMPLES if EXAMPLES[name].broken is not ANY])
def test_broken_reference_gives_errors_only_for_its_own_samples(name):
    example, scorer = EXAMPLES[name], TABLE[name]
    outputs = [example.passes, example.fails]
    sound, broken = samples(outputs, example.reference), samples(outputs, example.broken)
    scored = scorer.score([*sound[:2], *broken, *sound[2:]])
    assert outcomes(scored) == PASS * 2 + ERROR * 4 + FAIL * 2
