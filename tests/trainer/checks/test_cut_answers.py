"""The check cut_answers warns about gates whose ``maxNewTokens`` is shorter than training answers."""

from dataclasses import replace

import pytest

from support.trainer_root import gate_spec
from tunegate_api.messages import Message
from tunegate_trainer.checks import cut_answers
from tunegate_trainer.tokens.chat import encode, load_tokenizer
from tunegate_trainer.tokens.examples import answer_tokens, examples_of
from tunegate_trainer.tokens.rows import Row


@pytest.mark.parametrize(("most", "longer"), [(3, 4), (4, 0)])
def test_max_new_tokens_below_training_answer_lengths_gives_a_warning(make_root, sound, most, longer):
    gates = {
        "short": gate_spec(generation={"maxNewTokens": most}),
        "long": gate_spec(generation={"maxNewTokens": 99}),
    }
    row = sound.split.rows.train[0]
    trained = [replace(row, answer=3)] * 36 + [replace(row, answer=4)] * 4
    rows = replace(sound.split, rows=replace(sound.split.rows, train=trained))
    context = replace(sound.context, request=make_root(gates=gates).context().request)
    assert [finding.message for finding in cut_answers.run(rows, context)] == [
        f"EvalGate short: generation.maxNewTokens is {most}, but {longer} of 40 training answers are longer; "
        "a truncated output does not pass, so "
        "raise maxNewTokens if the model should give answers of this length"
    ] * bool(longer)


def test_answer_tokens_include_the_end_of_the_turn(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    turns = [Message(role=role, content="yes") for role in ("user", "assistant", "user")]
    (example,) = examples_of(tokenizer, Row(id="r", prompt=turns, completion="yes"))
    assert answer_tokens(example) == len(encode(tokenizer, "yes<|im_end|>"))
