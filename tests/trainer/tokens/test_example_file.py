"""Examples in an Arrow file: what is written is read, one by one and through the datasets library."""

import tracemalloc

import pyarrow
import pytest

from tunegate_trainer.tokens.example_file import ExampleFile, PairFile, example_writer, to_batch
from tunegate_trainer.tokens.examples import Example
from tunegate_trainer.train.dataset import PairExamples, training_dataset, training_order
from tunegate_trainer.train.preference import reference_key

EXAMPLES = [Example(input_ids=[i] * (i + 1), labels=[-100] * i + [i]) for i in range(2500)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "new" / "train.arrow"
    with example_writer(path) as writer:
        for part in (EXAMPLES[:7], [], EXAMPLES[7:1500], EXAMPLES[1500:]):
            writer.write_batch(to_batch(part))
    return ExampleFile(path)


def test_examples_are_read_as_they_were_written(file):
    assert list(file) == EXAMPLES
    assert len(file) == 2500
    assert (file[0], file[8], file[-1]) == (EXAMPLES[0], EXAMPLES[8], EXAMPLES[-1])
    assert file[5:9] == EXAMPLES[5:9]
    with pytest.raises(IndexError):
        file[2500]


def test_batches_have_the_examples_in_the_requested_order(file):
    wanted = [*range(2400, 0, -2), 3]
    found = [one for batch in file.batches(wanted) for one in batch.to_pylist()]
    assert found == [EXAMPLES[i] for i in wanted]
    assert list(file.batches([])) == []


def test_reading_batches_needs_no_more_memory_for_a_longer_file(tmp_path):
    assert _memory_of_reading(tmp_path / "long.arrow", 40) == _memory_of_reading(tmp_path / "short.arrow", 2)


def _memory_of_reading(path, batches):
    """Return the most bytes that are allocated while the first examples of a file are read."""
    with example_writer(path) as writer:
        for _ in range(batches):
            writer.write_batch(to_batch([Example(input_ids=[1] * 1000, labels=[1] * 1000)] * 50))
    stored, usual = ExampleFile(path), pyarrow.default_memory_pool()
    pool = pyarrow.proxy_memory_pool(usual)
    pyarrow.set_memory_pool(pool)
    try:
        for _ in stored.batches(range(0, 100, 2)):
            pass
        return pool.max_memory()
    finally:
        pyarrow.set_memory_pool(usual)


def test_file_that_was_not_completed_does_not_exist(tmp_path):
    path = tmp_path / "train.arrow"
    with pytest.raises(AttributeError), example_writer(path) as writer:
        writer.write_batch(None)
    assert list(tmp_path.iterdir()) == []


def test_training_dataset_maps_the_file_in_training_order(file):
    dataset = training_dataset(file, steps=3, batch_size=4, seed=1)
    assert [dict(one) for one in dataset] == [EXAMPLES[i] for i in training_order(2500, 12, 1)]
    assert dataset.cache_files == [{"filename": str(file.path)}]
    in_memory = training_dataset(EXAMPLES, steps=3, batch_size=4, seed=1)
    assert list(dataset) == list(in_memory)


@pytest.mark.slow
def test_pairs_in_a_file_train_like_pairs_in_memory(file):
    in_file, in_memory = PairFile(file), [*zip(EXAMPLES[::2], EXAMPLES[1::2], strict=True)]
    assert list(in_file) == in_memory
    assert (in_file[-1], in_file[3:5]) == (in_memory[-1], in_memory[3:5])
    reference = [(-float(i), -2.0 * i) for i in range(1250)]
    found, expected = (
        training_dataset(PairExamples(one, reference), steps=3, batch_size=4, seed=1)
        for one in (in_file, in_memory)
    )
    assert list(found) == list(expected)
    assert found.__getitems__([2, 7]) == expected.__getitems__([2, 7])
    assert reference_key("digest", in_file) == reference_key("digest", in_memory)


def test_file_with_an_answer_without_a_pair_is_refused(tmp_path):
    path = tmp_path / "pairs.arrow"
    with example_writer(path) as writer:
        writer.write_batch(to_batch(EXAMPLES[:3]))
    with pytest.raises(ValueError, match="3 examples are no pairs"):
        PairFile(ExampleFile(path))


@pytest.mark.slow
def test_training_on_a_pair_file_needs_little_memory(tmp_path):
    path = tmp_path / "pairs.arrow"
    with example_writer(path) as writer:
        for _ in range(10):
            writer.write_batch(to_batch([Example(input_ids=[1] * 2000, labels=[1] * 2000)] * 40))
    pairs = PairFile(ExampleFile(path))
    tracemalloc.start()
    reference_key("digest", pairs)
    dataset = training_dataset(PairExamples(pairs, [(0.0, 0.0)] * 200), steps=50, batch_size=4, seed=1)
    tokens = sum(len(one["input_ids"]) for one in dataset)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tokens == 200 * 4000
    assert peak < tokens  # in memory, a list would have 16 bytes for each token
