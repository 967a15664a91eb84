"""All rows of a source are tokenized once; several processes give the same result as one."""

import psutil
import pytest

from support.tiny_model import make_tokenizer
from tunegate_api.messages import Message
from tunegate_trainer.data.tokenize import CHUNK, PARALLEL_FROM, Lengths, Refused, processes_for, tokenize
from tunegate_trainer.tokens.examples import examples_of
from tunegate_trainer.tokens.rows import Pair, Row

PROMPT = [Message(role="user", content="order")]
ROWS = [Row(id=str(i), prompt=PROMPT, completion="mug " * (i % 40 + 1)) for i in range(CHUNK + 30)]
LIMIT = 30


def results(chunks):
    return [result for chunk in chunks for result in chunk.results]


def examples(chunks):
    return [example for chunk in chunks for example in chunk.examples.to_pylist()]


def test_rows_are_measured_but_too_long_ones_have_no_example():
    tokenizer = make_tokenizer()
    chunks = list(tokenize(tokenizer, ROWS, LIMIT))
    assert [len(chunk.results) for chunk in chunks] == [CHUNK, 30]
    of_rows = [examples_of(tokenizer, row) for row in ROWS]
    assert [one.tokens for one in results(chunks)] == [len(one["input_ids"]) for (one,) in of_rows]
    kept = [one for (one,) in of_rows if len(one["input_ids"]) <= LIMIT]
    assert 0 < len(kept) < len(ROWS)
    assert examples(chunks) == kept


def test_few_long_rows_are_tokenized_at_a_time():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no') }}"  # tokenizing such rows takes many seconds
    long = Row(id="1", prompt=PROMPT, completion="mug " * 700_000)
    assert [len(chunk.results) for chunk in tokenize(tokenizer, [long, long, long], LIMIT)] == [2, 1]


def test_row_that_the_chat_template_refuses_has_a_reason():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    (refused,) = results(tokenize(tokenizer, ROWS[:1], LIMIT))
    assert isinstance(refused, Refused)
    assert "no" in refused.reason
    assert refused.hint


def test_pair_has_two_examples():
    tokenizer = make_tokenizer()
    pair = Pair(id="1", prompt=PROMPT, chosen="mug", rejected="a mug")
    (chunk,) = tokenize(tokenizer, [pair], LIMIT)
    (lengths,) = chunk.results
    assert isinstance(lengths, Lengths)
    assert lengths.examples == 2
    assert chunk.examples.to_pylist() == examples_of(tokenizer, pair)
    assert lengths.tokens == sum(len(one["input_ids"]) for one in chunk.examples.to_pylist())


@pytest.mark.slow
def test_several_processes_tokenize_rows_in_the_same_order_as_one():
    tokenizer = make_tokenizer()
    rows = ROWS * 5
    in_one = list(tokenize(tokenizer, rows, LIMIT))
    chunks = tokenize(tokenizer, rows, LIMIT, processes=2)
    in_two = [next(chunks)]
    names = [argument for child in psutil.Process().children() for argument in child.cmdline()]
    assert len([name for name in names if name.startswith("LokyProcess")]) == 2
    in_two += chunks
    assert results(in_two) == results(in_one)
    assert examples(in_two) == examples(in_one)


def test_omp_num_threads_sets_the_processes_for_many_rows(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processes_for(PARALLEL_FROM) == 3
    assert processes_for(PARALLEL_FROM - 1) == 1
