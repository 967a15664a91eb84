"""The check cut_cases finds golden cases whose expected answers are longer than ``maxNewTokens``."""

import json
from dataclasses import replace
from typing import Any

import pytest

from support.trainer_root import gate_spec
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.checks import cut_cases
from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.runner import CheckRunner
from tunegate_trainer.tokens.chat import encode, load_tokenizer

LONG = "three mugs and four lamps to Oslo"
MOST = 8


def equals(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": "equals", "value": value, **fields}


@pytest.fixture
def context_of(make_root, sound):
    """Return the context of a job with one gate, whose cases have these expectations."""

    def make(*expectations: dict[str, Any], most: int = MOST, **spec: Any) -> CheckContext:
        cases = [{"id": f"c{i}", "prompt": f"{i}?", "expect": [each]} for i, each in enumerate(expectations)]
        gate = gate_spec(cases, generation={"maxNewTokens": most}, **spec)
        golden = {"orders": parse_cases("\n".join(map(json.dumps, cases)), GoldenCase)}
        request = make_root(gates={"orders": gate}).context().request
        return replace(sound.context, request=request, golden=golden)

    return make


@pytest.fixture
def found(sound, context_of):
    def run(*expectations: dict[str, Any], **options: Any) -> list[Finding]:
        return list(cut_cases.run(sound.split, context_of(*expectations, **options)))

    return run


@pytest.mark.parametrize(
    "expectation",
    [
        equals(LONG),
        equals(LONG, normalize=["Case", "Punctuation"]),
        equals(LONG, until=["\n"]),
        {"type": "label", "value": LONG},
        {"type": "contains", "value": LONG},
        {"type": "starts_with", "value": LONG},
        {"type": "json_equals", "value": {"items": [LONG]}},
        {"type": "all", "of": [equals("yes"), equals(LONG)]},
        {"type": "any", "of": [equals(LONG), equals(f"{LONG} and more")]},
        {"type": "any", "min": 2, "of": [equals(LONG), equals("yes"), equals(f"{LONG} and more")]},
    ],
)
def test_case_whose_answer_exceeds_max_new_tokens_is_found(found, expectation):
    (finding,) = found(equals("yes"), expectation)
    assert (finding.count, finding.severity) == (1, Severity.WARNING)
    assert finding.examples[0].startswith("case c1 needs ")


@pytest.mark.parametrize(
    "expectation",
    [
        equals("yes"),
        equals(LONG, **{"not": True}),
        equals(LONG, extract={"pattern": "(three)"}),
        equals(LONG, ignore=["mugs"]),
        {"type": "not_contains", "value": LONG},
        {"type": "regex", "value": LONG},
        {"type": "rouge_l", "value": LONG, "min": "0.5"},
        {"type": "any", "of": [equals(LONG), equals("yes")]},
        {"type": "all", "not": True, "of": [equals(LONG)]},
    ],
)
def test_case_that_a_shorter_output_may_pass_is_not_found(found, expectation):
    assert found(expectation) == []


def test_end_of_the_turn_counts_as_one_token(found, tiny_model):
    """An output without it is truncated, and does not pass."""
    tokens = len(encode(load_tokenizer(tiny_model), "yes"))
    assert found(equals("yes"), most=tokens + 1) == []
    (finding,) = found(equals("yes"), most=tokens)
    assert finding.examples == [f"case c0 needs {tokens + 1} tokens"]


def test_message_names_the_gate_the_setting_and_the_cases(found):
    (finding,) = found(equals("yes"), equals(LONG), equals("no"))
    assert finding.message == (
        "EvalGate orders: 1 of 3 golden cases cannot pass, because generation.maxNewTokens is 8 and their "
        f"expected answer is longer: {finding.examples[0]}; raise generation.maxNewTokens in a new EvalGate"
    )


@pytest.mark.parametrize(
    "limits",
    [{"minPassRate": "80%"}, {"cases": ["c1"], "minPassRate": "100%"}],
)
def test_gate_that_no_model_can_pass_is_refused(found, limits):
    rules = [{"name": "limit", **limits}]
    (finding,) = found(equals("yes"), equals(LONG), equals("no"), golden={"rules": rules})
    assert finding.severity is Severity.ERROR
    assert "no model can pass the gate: " in finding.message
    assert finding.remedy == "raise generation.maxNewTokens in a new EvalGate"


def test_advisory_case_that_cannot_pass_is_a_warning(found):
    golden = {"rules": [{"name": "all", "minPassRate": "100%"}], "advisory": ["c1"]}
    (finding,) = found(equals("yes"), equals(LONG), golden=golden)
    assert finding.severity is Severity.WARNING


def test_dry_run_gate_no_model_can_pass_is_warning(sound, context_of):
    context = context_of(equals(LONG), enforcement="DryRun", limits={"minPassRate": "80%"})
    runner = CheckRunner(context, lambda _: None)
    runner.run([cut_cases], sound.split)
    assert (runner.errors, len(runner.warnings)) == ([], 1)
