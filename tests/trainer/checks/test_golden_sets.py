"""What is measured by is sound: references of JSON schemas lead somewhere, and answers fit an output."""

import json

import pytest

from support.trainer_root import gate_spec
from tunegate_api.judging.golden import Message
from tunegate_trainer.checks.golden_sets import check_measures, cut_answers
from tunegate_trainer.process.errors import BadDataError, UserError
from tunegate_trainer.tokens.chat import encode, load_tokenizer
from tunegate_trainer.tokens.examples import answer_tokens, examples_of
from tunegate_trainer.tokens.rows import Row

REMOTE = "https://example.invalid/order.json"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def check(make_root, tiny_model, schema: dict[str, object]) -> None:
    case = {"id": "a", "prompt": "b", "expect": [{"type": "json_schema", "schema": schema}]}
    check_measures(make_root(gates={"orders": gate_spec([case])}).context(), load_tokenizer(tiny_model))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/item", "$defs": {"item": {"type": "string"}}},
        {"$schema": DRAFT_7, "properties": {"a": {"$ref": "#/definitions/b"}}, "definitions": {"b": {}}},
        {"$id": "https://example.invalid/a.json", "items": {"$ref": "a.json"}},
        {"$ref": "#word", "$defs": {"item": {"$anchor": "word"}}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        {"enum": [{"$ref": REMOTE}]},
    ],
    ids=json.dumps,
)
def test_a_schema_that_holds_what_it_refers_to_is_taken(make_root, tiny_model, schema):
    check(make_root, tiny_model, schema)


def test_task_metric_without_a_scorer_is_refused_by_name(make_root, tiny_model):
    root = make_root(spec={"taskMetrics": [{"name": "rouge_l", "min": "0.5"}]})
    with pytest.raises(UserError, match="task metric rouge_l is not supported yet"):
        check_measures(root.context(), load_tokenizer(tiny_model))


@pytest.mark.parametrize(
    ("schema", "reference"),
    [
        ({"$ref": REMOTE}, REMOTE),
        ({"properties": {"a": {"items": {"anyOf": [{"$ref": REMOTE}]}}}}, REMOTE),
        ({"$schema": DRAFT_7, "definitions": {"b": {"$ref": "order.json"}}}, "order.json"),
        ({"$ref": "#/$defs/order"}, "#/$defs/order"),
        ({"$ref": "#/shared/a", "shared": {"a": {"$ref": REMOTE}}}, REMOTE),
        ({"$ref": "#/maxLength/a", "maxLength": 3}, "#/maxLength/a"),
        ({"$dynamicRef": "#node"}, "#node"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(make_root, tiny_model, schema, reference):
    with pytest.raises(BadDataError) as raised:
        check(make_root, tiny_model, schema)
    assert str(raised.value) == (
        f"EvalGate orders, case a: the schema's reference {reference} leads nowhere; "
        "it may refer to its own parts alone"
    )


@pytest.mark.parametrize(("most", "longer"), [(3, 4), (4, 0)])
def test_gate_that_would_cut_answers_as_trained_is_warned_of(make_root, most, longer):
    gates = {
        "short": gate_spec(generation={"maxNewTokens": most}),
        "long": gate_spec(generation={"maxNewTokens": 99}),
    }
    found = cut_answers(make_root(gates=gates).context().request.gates, [3] * 36 + [4] * 4)
    assert found == [
        f"EvalGate short: generation.maxNewTokens is {most}, and {longer} of 40 training answers are longer: "
        "an output that is cut does not pass"
    ] * bool(longer)


def test_answer_is_counted_with_the_end_of_its_turn(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    turns = [Message(role=role, content="yes") for role in ("user", "assistant", "user")]
    (example,) = examples_of(tokenizer, Row(id="r", prompt=turns, completion="yes"))
    assert answer_tokens(example) == len(encode(tokenizer, "yes<|im_end|>"))
