"""A grader that is added with one module and one line in the table is evaluated and judged like any other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import pytest
import torch

from support.dummy_grader import common_characters
from support.trainer_root import STAGE
from tunegate_api.contract.digests import canonical_json
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results, Subject
from tunegate_api.judging.judgement import judge_final
from tunegate_api.verdict.outcomes import FAIL, PASS, VerdictState
from tunegate_trainer.evaluate.evaluate import (
    SetResult,
    Weights,
    as_evaluation,
    as_results,
    evaluate,
    judge_outputs,
    read_cases,
    write_cases,
)
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.sets import held_out_sets
from tunegate_trainer.graders import Output, Sample, Score
from tunegate_trainer.graders.exact.one_by_one import OneByOne
from tunegate_trainer.graders.grader import Reads, always_open
from tunegate_trainer.graders.table import GRADERS, METRICS
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.tokens.chat import load_tokenizer

CPU = torch.device("cpu")
WEIGHTS = (Weights(Subject.BASE, STAGE, 0, "a" * 64), Weights(Subject.FINAL, STAGE, 6, "b" * 64))


def common_with_text(sample: Sample) -> Score:
    return common_characters(replace(sample, reference=sample.reference.text))


def with_minimum(request: Request, minimum: str) -> Request:
    metrics = [metric.model_copy(update={"min": minimum}) for metric in request.spec.task_metrics]
    return request.model_copy(update={"spec": request.spec.model_copy(update={"task_metrics": metrics})})


def varied(model: Any) -> Any:
    """Change the weights, so that different prompts have different answers."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return model


def test_metric_of_a_grader_added_with_one_line_is_judged(make_root, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "RougeL", OneByOne(common_with_text))
    context = make_root(spec={"taskMetrics": [{"name": "rouge_l", "type": "RougeL", "min": "50%"}]}).context(
        Role.GATE
    )
    request, tokenizer = context.request, load_tokenizer(tiny_model)
    gates = golden_sets(context, tokenizer, request.final_gates)
    sets = [*gates, *held_out_sets(context, tokenizer, "test")]
    stops = range(0, len(tokenizer), 4)  # so that some answers are not truncated
    golden, rows = evaluate(varied(load_base(tiny_model, "float32", CPU)), tokenizer, sets, stops=stops)
    assert {case.truncated for case in rows.cases} == {True, False}

    write_cases(tmp_path / "test.jsonl", rows)
    write_cases(tmp_path / "golden.jsonl", golden)
    assert read_cases(tmp_path / "test.jsonl") == rows.model_copy(update={"seconds": 0})
    assert "counts" not in (tmp_path / "golden.jsonl").read_text()

    measured = as_results(sets, [as_evaluation(each, sets, [golden, rows]) for each in WEIGHTS])
    results = Results.model_validate_json(canonical_json(measured))

    # The labelled answer of every row is "yes". A truncated output has nothing in common with it.
    values = [
        Fraction(0 if c.truncated else 2 * (Counter(c.output) & Counter("yes")).total(), len(c.output) + 3)
        for c in rows.cases
    ]
    mean = sum(values) / len(values)
    assert 0 < mean < 1
    for minimum, state in (
        (floor(mean * 10_000), VerdictState.PASSED),
        (floor(mean * 10_000) + 1, VerdictState.FAILED),
    ):
        judged = judge_final(with_minimum(request, f"{minimum / 100:.2f}%"), results)
        assert judged is not None
        (task,) = judged.tasks
        assert (task.value, task.base_value) == (mean, mean)
        assert task.finding.state is state
        assert task.finding.message.startswith("rouge_l ")


class Polite:
    """Passes outputs that begin with please. It reads only the start, so truncated outputs are scored."""

    reads = Reads.START
    outlook = staticmethod(always_open)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        is_polite = [sample.output.startswith("please") for sample in samples]
        return [Score(PASS) if each else Score(FAIL, "is not polite") for each in is_polite]


@pytest.mark.parametrize(("text", "state"), [("please", VerdictState.PASSED), ("now", VerdictState.FAILED)])
def test_expectation_of_a_grader_added_with_one_line_is_judged(
    make_root, tiny_model, monkeypatch, text, state
):
    monkeypatch.setitem(GRADERS, "equals", Polite())
    context = make_root().context(Role.GATE)
    sets = golden_sets(context, load_tokenizer(tiny_model), context.request.final_gates)
    cases = sets[0].cases

    def scored(word: str) -> list[SetResult]:
        outputs = [[Output(f"{word} " * 100, truncated=True)]] * len(cases)
        return [SetResult(cases=judge_outputs(cases, outputs, None), seconds=0)]

    found = [scored("please"), scored(text)]
    each = [as_evaluation(weights, sets, results) for weights, results in zip(WEIGHTS, found, strict=True)]
    measured = as_results(sets, each)
    judged = judge_final(context.request, measured)
    assert judged is not None
    assert [gate.verdict.state for gate in judged.gates] == [state]
