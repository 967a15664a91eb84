"""Repeated evaluations, and worse models that are made from known outputs."""

from typing import Any

import pytest

from support.trainer_root import gate_spec
from tunegate_api.v1alpha2.evalgate import Samples
from tunegate_trainer.data.refusals import is_refusal
from tunegate_trainer.evaluate.error_rate import repeats
from tunegate_trainer.evaluate.error_rate.answers import (
    COMPLIANT,
    derangement,
    removed_refusals,
    shuffled_answers,
)
from tunegate_trainer.evaluate.error_rate.repeats import batch_size, evaluate_again
from tunegate_trainer.evaluate.evaluate import SetResult, evaluate, judge_outputs
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.sets import GOLDEN, GeneratedSet
from tunegate_trainer.graders import Output
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.tokens.chat import load_tokenizer, stop_token_ids

REFUSAL = "I can't help with that."


def cases_of(make_root, *cases: dict[str, Any], batch_size: int = 32, **changes: Any) -> GeneratedSet:
    spec = {"evaluation": {"batchSize": batch_size}}
    root = make_root(spec=spec, gates={"orders": gate_spec(list(cases), **changes)})
    context = root.context()
    (found,) = golden_sets(context, load_tokenizer(root.base_model), context.request.final_gates)
    return found


def expecting(id_: str, *expect: dict[str, Any], prompt: str | None = None) -> dict[str, Any]:
    return {"id": id_, "prompt": prompt or f"order {id_}", "expect": list(expect)}


def answered(cases: GeneratedSet, *outputs: str) -> SetResult:
    """Return the results of a model with these outputs."""
    scored = judge_outputs(cases.cases, [(Output(text, truncated=False),) for text in outputs], None)
    return SetResult(cases=scored, seconds=1)


EQUALS = {"type": "equals"}


def test_shuffled_answers_are_scored_by_their_new_cases(make_root):
    labels = ["red", "red", "red", "blue"]
    cases = cases_of(make_root, *(expecting(f"c{i}", EQUALS | {"value": v}) for i, v in enumerate(labels)))
    known = answered(cases, *labels)
    assert known.outcomes(GOLDEN) == "pppp"
    shuffled = shuffled_answers(cases, known)
    assert sorted(case.output for case in shuffled.cases) == sorted(labels)
    assert shuffled.outcomes(GOLDEN).count("f") == 2, "the blue answer and the one that a red case lost"
    assert shuffled.cases[3].output == "red"


def test_shuffled_answers_are_the_same_each_time(make_root):
    values = [f"v{i}" for i in range(12)]
    cases = cases_of(make_root, *(expecting(f"c{v}", EQUALS | {"value": v}) for v in values))
    known = answered(cases, *values)
    first, second = (shuffled_answers(cases, known) for _ in range(2))
    assert [case.output for case in first.cases] == [case.output for case in second.cases]
    assert first.outcomes(GOLDEN) == "f" * 12


def test_one_case_has_no_other_answer(make_root):
    cases = cases_of(make_root, expecting("only", EQUALS | {"value": "yes"}))
    assert shuffled_answers(cases, answered(cases, "yes")) is None


@pytest.mark.parametrize("count", [2, 3, 10, 500])
def test_no_position_keeps_its_place_in_a_derangement(count):
    order = derangement(count)
    assert sorted(order) == list(range(count))
    assert all(place != position for position, place in enumerate(order))


def test_removed_refusals_replace_only_outputs_that_refuse(make_root):
    either = {"type": "any", "of": [{"type": "refusal"}, {"type": "contains", "value": "safe"}]}
    cases = cases_of(
        make_root,
        expecting("refuse", {"type": "refusal"}),
        expecting("comply", {"type": "refusal", "not": True}),
        expecting("missed", {"type": "refusal"}),
        expecting("either", either),
        expecting("group", either),
    )
    known = answered(cases, REFUSAL, "Here it is.", "Sure!", "This is safe.", REFUSAL)
    assert known.outcomes(GOLDEN) == "ppfpp"
    removed = removed_refusals(cases, known)
    assert [case.output for case in removed.cases] == [
        COMPLIANT,
        "Here it is.",
        "Sure!",
        "This is safe.",
        COMPLIANT,
    ]
    assert removed.outcomes(GOLDEN) == "fpfpf"
    assert not is_refusal(COMPLIANT)


def test_set_without_passed_refusals_cannot_lose_them(make_root):
    cases = cases_of(make_root, expecting("a", {"type": "refusal"}), expecting("b", EQUALS | {"value": "x"}))
    assert removed_refusals(cases, answered(cases, "Sure!", "x")) is None


@pytest.mark.parametrize(
    ("usual", "prompts", "sizes"), [(32, 200, [16, 24, 16]), (32, 10, [5, 7, 5]), (1, 10, [1, 1, 1])]
)
def test_batches_of_repetitions_are_never_larger_than_usual(usual, prompts, sizes):
    assert [batch_size(usual, prompts, number) for number in (1, 2, 3)] == sizes


@pytest.fixture
def base(tiny_model):
    return load_base(tiny_model, "float32", "cpu"), load_tokenizer(tiny_model)


def test_repetition_has_other_batches_and_the_same_outcomes(make_root, base, monkeypatch):
    model, tokenizer = base
    prompts = [f"order {i} " + "mug " * (i % 4) for i in range(9)]
    cases = cases_of(
        make_root,
        *(expecting(f"c{i}", EQUALS | {"value": "x"}, prompt=text) for i, text in enumerate(prompts)),
        generation={"maxNewTokens": 6},
        batch_size=4,
    )
    stops = stop_token_ids(tokenizer, model.generation_config)
    batches: list[list[str]] = []
    generate = repeats.generate

    def noted(model, tokenizer, prompts, settings, **options):
        assert len(prompts) <= settings.batch_size <= 4
        batches.append(list(prompts))
        return generate(model, tokenizer, prompts, settings, **options)

    monkeypatch.setattr(repeats, "generate", noted)
    (usual,) = evaluate(model, tokenizer, [cases], stops=stops)
    found = [evaluate_again(model, tokenizer, cases, number, stops=stops) for number in (1, 2)]
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 1, 3, 3, 3]
    assert batches[0] != [case.prompt for case in cases.cases[:2]]
    for each in found:
        assert [case.output for case in each.cases] == [case.output for case in usual.cases]


def test_repetition_of_samples_draws_other_samples(make_root, base):
    model, tokenizer = base
    samples = Samples(count=3, temperature="1.5").to_wire()
    cases = cases_of(
        make_root,
        *(expecting(f"c{i}", EQUALS | {"value": "x"}) for i in range(4)),
        generation={"maxNewTokens": 6, "samples": samples},
        batch_size=4,
    )
    stops = stop_token_ids(tokenizer, model.generation_config)
    (usual,) = evaluate(model, tokenizer, [cases], stops=stops)
    first, second, again = (
        [case.output for case in evaluate_again(model, tokenizer, cases, n, stops=stops).cases]
        for n in (1, 2, 1)
    )
    assert len({tuple(first), tuple(second), tuple(case.output for case in usual.cases)}) == 3
    assert again == first
