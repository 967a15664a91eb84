"""Near-duplicates are found in linear time, and rows of a templated task are none."""

import random

import pytest

from tunegate_trainer.data import near_duplicates
from tunegate_trainer.data.near_duplicates import are_similar, find_near_duplicates, shingle_sets
from tunegate_trainer.data.shingles import Template, Words

VOCABULARY = [f"word{i}" for i in range(4000)]


def texts(count: int, words: int = 30, seed: int = 0) -> list[str]:
    order = random.Random(seed)
    return [" ".join(order.choices(VOCABULARY, k=words)) for _ in range(count)]


def edited(text: str, changes: int, seed: int) -> str:
    order, words = random.Random(seed), text.split()
    for place in order.sample(range(len(words)), changes):
        words[place] = f"new{seed}"
    return " ".join(words)


def found(documents: list[tuple[str, str]]) -> dict[int, int]:
    """Return each document that repeats an earlier one, and the earlier one."""
    repeated = find_near_duplicates(documents).repeated.tolist()
    return {i: earlier for i, earlier in enumerate(repeated) if earlier >= 0}


def test_edited_copies_are_found_and_nothing_else():
    documents = [(text, "yes") for text in texts(300)]
    copies = [(edited(documents[i][0], 2, i), "yes") for i in range(40)]
    assert found(documents + copies) == {300 + i: i for i in range(40)}


def test_documents_of_different_symbols_are_no_near_duplicates():
    documents = [("👍", "🎉"), ("👎", "😢"), ("🍎", "🍏"), ("+-", "=")]
    assert found(documents) == {}
    assert find_near_duplicates(documents).clusters.tolist() == [0, 1, 2, 3]
    assert found([*documents, ("👎", "😢 ")]) == {4: 1}


def test_forms_of_the_same_symbols_are_duplicates():
    documents = [("\u2764\ufe0f", "!!"), ("\u2764", "\uff01\uff01")]
    assert found(documents) == {1: 0}


def test_long_documents_are_compared_in_smaller_batches_with_equal_results(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_COMPARED_WORDS", 100)
    documents = [(text, "yes") for text in texts(20)]
    copies = [(edited(documents[i][0], 2, i), "yes") for i in range(20)]
    assert found(documents + copies) == {20 + i: i for i in range(20)}


def test_found_pairs_are_those_of_comparing_every_pair():
    originals = texts(60)
    documents = [(edited(text, changes, changes), "") for changes in range(8) for text in originals]
    template = Template.of(documents)
    sets = shingle_sets(Words.of(documents))
    pairs = [(i, j) for i in range(len(sets)) for j in range(i) if are_similar(sets[i], sets[j], template)]
    clusters = find_near_duplicates(documents).clusters
    assert {i for i, _ in pairs} == found(documents).keys()
    assert all(clusters[i] == clusters[j] for i, j in pairs)


@pytest.mark.parametrize("copy", ["ONE two, three: four", "one\n two three\tfour!"])
def test_copies_that_differ_in_case_or_punctuation_are_found(copy):
    documents = [(text, "yes") for text in texts(50)]
    assert found([*documents, ("one two three four", "no"), (copy, "No.")]) == {51: 50}


def test_rows_of_one_template_with_different_content_are_no_duplicates():
    frame = "Read the message below, and reply with one line of JSON that has the fields item and quantity. "
    order = random.Random(1)
    documents = [
        (f"{frame}I want {order.randrange(99)} {word} please", f'{{"item": "{word}"}}')
        for word in order.choices(VOCABULARY, k=200)
    ]
    documents = list(dict.fromkeys(documents))
    assert found(documents) == {}


def test_similar_prompts_with_different_answers_are_only_one_cluster():
    (text,) = texts(1)
    result = find_near_duplicates([(text, "positive"), (edited(text, 1, 1), "negative")])
    assert result.repeating == []
    assert result.clusters[0] == result.clusters[1]


def test_prompts_with_the_same_words_are_one_cluster():
    result = find_near_duplicates(
        [("What is it?", texts(1)[0]), ("what is it", texts(1, seed=1)[0]), ("Why?", "")]
    )
    assert result.clusters.tolist() == [0, 0, 2]
    assert result.repeating == []


def test_large_cluster_takes_a_linear_number_of_comparisons(monkeypatch):
    compared: list[int] = []

    def counted(first, second, template):
        compared.append(1)
        return are_similar(first, second, template)

    monkeypatch.setattr(near_duplicates, "are_similar", counted)
    (text,) = texts(1, words=60)
    copies = [(edited(text, 2, i), "") for i in range(400)]
    result = find_near_duplicates(copies, Template.of([]))
    assert result.repeating == list(range(1, 400))
    assert len(compared) < 3 * len(copies)


def test_result_is_the_same_in_every_run():
    documents = [(text, "") for text in texts(50) + [edited(text, 2, 3) for text in texts(50)]]
    first, second = find_near_duplicates(documents), find_near_duplicates(documents)
    assert first.repeated.tolist() == second.repeated.tolist()
    assert first.clusters.tolist() == second.clusters.tolist()


def test_no_rows_and_empty_rows_are_accepted():
    assert find_near_duplicates([]).repeating == []
    assert find_near_duplicates([("", ""), ("", " "), ("a", "")]).repeating == [1]


def test_result_is_the_same_if_earlier_comparisons_are_forgotten(monkeypatch):
    originals = texts(40)
    documents = [(edited(text, n, n), f"answer{n}") for n in range(5) for text in originals]
    expected = find_near_duplicates(documents)
    monkeypatch.setattr(near_duplicates, "_MOST_COMPARED", 10)
    result = find_near_duplicates(documents)
    assert result.clusters.tolist() == expected.clusters.tolist()
    assert result.repeated.tolist() == expected.repeated.tolist()
