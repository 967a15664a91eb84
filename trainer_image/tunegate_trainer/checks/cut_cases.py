"""Check for golden cases whose expected answer is longer than ``maxNewTokens``, so that no output passes."""

import json
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.expectations import (
    Expectation,
    GroupExpectation,
    JsonExpectation,
    LabelExpectation,
    TextExpectation,
)
from tunegate_api.cases.golden import GoldenCase, case_set
from tunegate_api.cases.normalize import without_differences
from tunegate_api.contract.request import GateRequest
from tunegate_api.meta import summarize
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.verdict.outcomes import FAIL, PASS, VerdictState
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import encode

NAME = "cut_cases"
_REMEDY = "raise generation.maxNewTokens in a new EvalGate"
_CONTAINED = ("equals", "starts_with", "contains")
"""The comparisons that an output passes only if it contains the expected text."""


def run(_rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Warn about the golden cases of each gate that cannot pass, because their expected answer is longer than
    ``maxNewTokens``: a truncated output does not pass. Refuse a gate that no model can pass for this
    reason."""
    gates = {gate.name: gate for gate in context.request.gates}
    for name, cases in context.golden.items():
        if name in gates:
            yield from _findings(context.tokenizer, gates[name], cases)


def _findings(
    tokenizer: PreTrainedTokenizerBase, gate: GateRequest, cases: Sequence[GoldenCase]
) -> Iterator[Finding]:
    most = gate.spec.generation.max_new_tokens
    needed = [least_tokens(tokenizer, case) for case in cases]
    examples = [
        f"case {case.id} needs {tokens} tokens"
        for case, tokens in zip(cases, needed, strict=True)
        if tokens > most
    ]
    if not examples:
        return
    outcomes = "".join(FAIL if tokens > most else PASS for tokens in needed)
    verdict = judge_golden(case_set(cases, ""), outcomes, gate.bar, {})
    is_hopeless = verdict.state is VerdictState.FAILED or not verdict.passed
    consequence = f"no model can pass the gate: {verdict.message}" if is_hopeless else _REMEDY
    yield Finding(
        severity=Severity.ERROR if is_hopeless else Severity.WARNING,
        message=f"EvalGate {gate.name}: {len(examples)} of {len(cases)} golden cases cannot pass, because "
        f"generation.maxNewTokens is {most} and their expected answer is longer: "
        f"{summarize(examples, SHOWN_EXAMPLES)}; {consequence}",
        count=len(examples),
        examples=examples[:SHOWN_EXAMPLES],
        remedy=_REMEDY if is_hopeless else "",
        error=UserError,
    )


def least_tokens(tokenizer: PreTrainedTokenizerBase, case: GoldenCase) -> int:
    """Return how many tokens an output that passes a case has at least, with the end of its turn. Only
    expectations that name the text of the answer count."""
    return 1 + max(_least(tokenizer, each) for each in case.expect)


def _least(tokenizer: PreTrainedTokenizerBase, expectation: Expectation) -> int:
    if expectation.not_:
        return 0
    if isinstance(expectation, GroupExpectation):
        return sorted(_least(tokenizer, each) for each in expectation.of)[expectation.needed - 1]
    return min((len(encode(tokenizer, text)) for text in _accepted(expectation)), default=0)


def _accepted(expectation: Expectation) -> Iterator[str]:
    """Yield forms of the text that an output must contain to pass; none if it may contain other texts. White
    space before a text can be part of its first token."""
    match expectation:
        case TextExpectation() if expectation.type in _CONTAINED and not (
            expectation.extract or expectation.ignore
        ):
            texts = [expectation.value, without_differences(expectation.value, expectation.normalize)]
        case LabelExpectation():
            texts = [expectation.value]
        case JsonExpectation():
            separators = ((",", ":"), (", ", ": "))
            texts = [
                json.dumps(expectation.value, ensure_ascii=False, separators=each) for each in separators
            ]
        case _:
            texts = []
    for text in texts:
        yield from (text, text.strip(), f" {text.strip()}")
