"""Words and shingles ignore case and punctuation, and shingles that many rows share are the template."""

import numpy as np
import pytest

from tunegate_trainer.data import shingles
from tunegate_trainer.data.shingles import BATCH_ROWS, Document, Template, Words, batches
from tunegate_trainer.data.words import words_of


def equal(first: str, second: str) -> bool:
    keys = Words.of([(first, ""), (second, "")]).keys()
    return bool(keys[0] == keys[1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World! 12.5", ["hello", "world", "12", "5"]),
        ("snake_case\tand\nlines", ["snake_case", "and", "lines"]),
        ("Straße ﬁne Élan", ["strasse", "fine", "élan"]),
        ("我爱 Tokyo タワー", ["我", "爱", "tokyo", "タ", "ワ", "ー"]),
        ("👍 🎉", ["👍", "🎉"]),
        ("=>", ["=", ">"]),
        (" \n", []),
        ("", []),
    ],
)
def test_words_ignore_case_and_punctuation_in_every_script(text, words):
    assert words_of(text) == words


def test_texts_are_equal_only_with_equal_words_in_order():
    assert equal("A b, c", "a B c!")
    assert not equal("a b c", "a c b")
    assert not equal("a b", "a b b")
    assert not equal("", "a")


def test_prompts_and_answers_can_be_read_alone():
    words = Words.of([("one two", "three"), ("", "four five"), ("six", "")])
    assert words.without_answers().counts.tolist() == [2, 0, 1]
    assert words.without_prompts().counts.tolist() == [1, 2, 0]
    alone = Words.of([("one two", ""), ("", ""), ("six", "")])
    assert (words.without_answers().hashes == alone.hashes).all()


def test_runs_of_words_do_not_cross_documents():
    words = Words.of([("a b c d", ""), ("c d", "e"), ("x", "")])
    runs, first = words.runs(3)
    assert first.tolist() == [0, 1, 4]
    assert len(set(runs.tolist())) == 3
    assert Words.of([("a", "")]).runs(3)[0].tolist() == []


def test_a_changed_word_changes_three_shingles_wherever_it_is():
    base = [f"word{i}" for i in range(9)]
    for place in (0, 4, 8):
        changed = [*base[:place], "other", *base[place + 1 :]]
        shingles, owners = Words.of([(" ".join(base), ""), (" ".join(changed), "")]).shingles
        first, second = (set(shingles[owners == i].tolist()) for i in (0, 1))
        assert len(first) == len(second) == 11
        assert len(first - second) == len(second - first) == 3


def test_documents_are_hashed_in_batches():
    documents = [(f"document {i}", "") for i in range(BATCH_ROWS + 1)]
    assert [len(words) for words in batches(iter(documents))] == [BATCH_ROWS, 1]


@pytest.mark.parametrize(
    ("total", "with_text", "found"), [(30, 6, False), (30, 7, True), (500, 10, False), (500, 11, True)]
)
def test_template_is_what_enough_rows_have_in_common(total, with_text, found):
    documents = [(f"unique{i}a unique{i}b unique{i}c", "") for i in range(total - with_text)]
    documents += [(f"reply with json {i}", "") for i in range(with_text)]
    template = Template.of(documents)
    covered = template.covers(Words.of([("please reply with json now", "")]))
    assert covered.tolist() == [False, found, found, found, False]


def test_template_is_found_in_fewer_documents_if_they_are_long(monkeypatch):
    monkeypatch.setattr(shingles, "SAMPLED_SHINGLES", 1000)
    monkeypatch.setattr(shingles, "BATCH_ROWS", 20)
    read: list[int] = []

    class Documents(list[Document]):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    long = (" ".join(f"w{i}x{k}" for k in range(50)) for i in range(100))
    template = Template.of(Documents((f"reply with json {i}", text) for i, text in enumerate(long)))
    assert template.covers(Words.of([("please reply with json", "")])).tolist() == [False, True, True, True]
    assert len(read) < 50
    assert max(read) > 60  # a sample, not the first documents


def test_data_without_rows_have_no_template():
    template = Template.of([])
    assert not template.has(np.array([1, 2], np.uint64)).any()
    assert template.covers(Words.of([("a b c", "")])).tolist() == [False] * 3
